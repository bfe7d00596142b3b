"""A posterior says whether anchors found it on machines that empty the kernel's caches between processes"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0052"
down_revision: str | None = "0051"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    column = sa.Column("caches_emptied", sa.Boolean(), nullable=False, server_default=sa.false())
    op.add_column("commit_posteriors", column)
