"""A decision marks the epoch of a class as ended, and a background task begins the next; commits are listed by depth"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0054"
down_revision: str | None = "0053"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("evidence_epochs", sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("evidence_epochs", sa.Column("underived_sha", sa.String(40), nullable=True))
    op.create_index("ix_commits_generation", "commits", ["project_id", "depth", "sha"])
