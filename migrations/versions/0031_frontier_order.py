"""The index of the frontier gives its whole order, ties included"""

from collections.abc import Sequence

from alembic import op

revision: str = "0031"
down_revision: str | None = "0030"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NAME, TABLE = "ix_commit_posteriors_frontier", "commit_posteriors"


def upgrade() -> None:
    op.drop_index(NAME, TABLE)
    op.create_index(NAME, TABLE, ["project_id", "hardware_class", "standing", "rank_score", "commit_sha"])
