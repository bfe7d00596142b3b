"""Runs are ordered by each of their numbers from an index"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0051"
down_revision: str | None = "0050"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NUMBERS = ("training_seconds", "peak_memory_mib", "steps", "tokens", "parameters")


def upgrade() -> None:
    op.create_index("ix_runs_metric", "runs", ["project_id", "hardware_class", "metric", "id"])
    for name in NUMBERS:
        op.create_index(f"ix_runs_{name}", "runs", ["project_id", name, "id"])
    further, failed = sa.text("metrics IS NOT NULL"), sa.text("outcome <> 'ok'")
    op.create_index("ix_runs_metrics", "runs", ["project_id", "id"], sqlite_where=further, postgresql_where=further)
    columns = ["project_id", "outcome", "id"]
    op.create_index("ix_runs_outcome", "runs", columns, sqlite_where=failed, postgresql_where=failed)
