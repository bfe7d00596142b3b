"""A topic's counts hold what became of its gains that were seen in one run"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0058"
down_revision: str | None = "0057"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NAMES = ("gains_seen", "gains_measured_again", "gains_held")
COUNT = """
UPDATE topic_counts SET (gains_seen, gains_measured_again, gains_held) = (
    SELECT count(*), count(*) FILTER (WHERE p.checkers >= 1),
        count(*) FILTER (WHERE p.checkers >= 1 AND p.verdict = 'improved' AND p.dispute = 'none')
    FROM experiments e JOIN findings f ON f.experiment_id = e.id
    LEFT JOIN commit_posteriors p ON p.commit_sha = e.commit_sha AND p.hardware_class = f.hardware_class
    WHERE e.project_id = topic_counts.project_id AND e.topic = topic_counts.topic
        AND e.id <= topic_counts.newest_id AND NOT f.is_hidden AND f.written_verdict = 'improved'
)
"""


def upgrade() -> None:
    for name in NAMES:
        op.add_column("topic_counts", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.execute(COUNT)
