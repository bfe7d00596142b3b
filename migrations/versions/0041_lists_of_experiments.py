"""Experiments are listed by topic, branch, date, effect and metric from indexes"""

from collections.abc import Sequence

from alembic import op

revision: str = "0041"
down_revision: str | None = "0040"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

EXPERIMENTS, POSTERIORS = "experiments", "commit_posteriors"


def upgrade() -> None:
    op.drop_index("ix_experiments_topic", EXPERIMENTS)
    op.create_index("ix_experiments_topic", EXPERIMENTS, ["project_id", "topic", "id"])
    op.drop_index("ix_experiments_branch_id", EXPERIMENTS)
    op.create_index("ix_experiments_branch_id_id", EXPERIMENTS, ["branch_id", "id"])
    op.create_index("ix_experiments_created", EXPERIMENTS, ["project_id", "created_at", "id"])
    for name in ("effect", "metric"):
        columns = ["project_id", "hardware_class", f"{name}_mean", "commit_sha"]
        op.create_index(f"ix_commit_posteriors_{name}", POSTERIORS, columns)
