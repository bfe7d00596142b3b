"""Papers are hidden whatever their state, so that a quarantine's end gives each back the one that it had"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0035"
down_revision: str | None = "0034"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("findings", sa.Column("is_hidden", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute("UPDATE findings SET is_hidden = true, state = 'published' WHERE state = 'hidden'")
