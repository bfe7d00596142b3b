"""Indexes of orders by numbers have what filters ask for; topics and contributions have the time of what happened"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0050"
down_revision: str | None = "0049"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    for name, other in (("effect", "metric"), ("metric", "effect")):
        columns = ["project_id", "hardware_class", f"{name}_mean", "commit_sha", "verdict", "standing", f"{other}_mean"]
        op.drop_index(f"ix_commit_posteriors_{name}", "commit_posteriors")
        op.create_index(f"ix_commit_posteriors_{name}", "commit_posteriors", columns)
    op.add_column("topic_counts", sa.Column("done_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        "UPDATE topic_counts SET done_at = (SELECT max(done_at) FROM experiments WHERE "
        "experiments.project_id = topic_counts.project_id AND experiments.topic = topic_counts.topic)"
    )
    op.execute("ALTER TABLE topic_counts DROP COLUMN newest_at")
    op.execute("ALTER TABLE topic_counts RENAME COLUMN done_at TO newest_at")
    imported = "SELECT project_id FROM imported_sessions"  # others' runs were stored within minutes of their end
    op.execute(f"UPDATE class_progress SET is_stale = true WHERE project_id IN ({imported})")  # noqa: S608  a constant
