"""Commits know how many steps they take at once"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("commits", sa.Column("steps", sa.Integer(), nullable=False, server_default="1"))
    op.execute(
        """
        UPDATE commits SET steps = taken.steps FROM (
            SELECT experiments.commit_sha AS sha, count(*) AS steps
            FROM experiments JOIN assembled_steps ON assembled_steps.experiment_id = experiments.id
            WHERE experiments.kind = 'adopt' AND assembled_steps.fate = 'done'
            GROUP BY experiments.commit_sha
        ) AS taken WHERE commits.sha = taken.sha
        """
    )
