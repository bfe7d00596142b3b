"""Runs know what they used of their budget by its own clock, and what the edited file used before it"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Not known of runs that are there: their budgets were wall time, which is `training_seconds`.
    for name in ("budget_seconds", "before_start_seconds"):
        op.add_column("runs", sa.Column(name, sa.Double()))
