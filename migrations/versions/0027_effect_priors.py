"""Priors of effects that a class's own experiments teach"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0027"
down_revision: str | None = "0026"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Without them the contract's prior holds, until the next epoch.
    op.add_column("evidence_epochs", sa.Column("effects", sa.JSON()))
