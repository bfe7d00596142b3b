"""An experiment's first run is found in one step, on PostgreSQL too"""

from collections.abc import Sequence

from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # PostgreSQL looks for the smallest id in an index that is ordered by it: without this one, in that of all runs.
    op.create_index("ix_runs_experiment_id_id", "runs", ["experiment_id", "id"])
    op.drop_index("ix_runs_experiment_id", table_name="runs")
