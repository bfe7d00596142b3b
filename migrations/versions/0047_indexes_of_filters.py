"""Experiments are found by date, kind, failure, verdict, standing and lost code from indexes, and runs by date"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0047"
down_revision: str | None = "0046"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

EXPERIMENTS, POSTERIORS = "experiments", "commit_posteriors"


def upgrade() -> None:
    op.drop_index("ix_experiments_created", EXPERIMENTS)
    op.create_index("ix_experiments_done", EXPERIMENTS, ["project_id", "done_at", "id"])
    op.create_index("ix_experiments_kind", EXPERIMENTS, ["project_id", "kind", "id"])
    for name in ("standing", "verdict"):
        op.create_index(f"ix_commit_posteriors_{name}", POSTERIORS, ["project_id", name, "commit_sha"])
    failed, lost = sa.text("failure IS NOT NULL"), sa.text("NOT has_code")
    columns = ["project_id", "failure", "experiment_id"]
    op.create_index("ix_findings_failed", "findings", columns, sqlite_where=failed, postgresql_where=failed)
    op.create_index("ix_commits_without_code", "commits", ["project_id"], sqlite_where=lost, postgresql_where=lost)
    op.create_index("ix_runs_done", "runs", ["project_id", "finished_at", "id"])
