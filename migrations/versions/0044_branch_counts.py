"""Branches count their experiments"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0044"
down_revision: str | None = "0043"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("branches", sa.Column("experiments", sa.Integer, nullable=False, server_default="0"))
    op.execute(
        "update branches set experiments = (select count(*) from experiments where experiments.branch_id = branches.id)"
    )
