"""Where the background task derives posteriors again, once it has come to the end"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0055"
down_revision: str | None = "0054"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("evidence_epochs", sa.Column("again_sha", sa.String(40), nullable=True))
