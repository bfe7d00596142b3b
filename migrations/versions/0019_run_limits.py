"""Runs know which limits of their sandbox held"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0019"
down_revision: str | None = "0018"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Not known of runs that are there.
    op.add_column("runs", sa.Column("limits", sa.JSON()))
