"""Runs say where they were hopeless, and what a language model was asked for them"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("hopeless_at", sa.Double()))
    op.add_column("runs", sa.Column("usage", sa.JSON()))
