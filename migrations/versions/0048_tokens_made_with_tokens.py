"""A token, and a secret that is exchanged for one, knows the token with which it was made"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0048"
down_revision: str | None = "0047"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    for table in ("tokens", "sign_in_links"):
        op.add_column(table, sa.Column("made_with_id", sa.Integer(), nullable=True))
