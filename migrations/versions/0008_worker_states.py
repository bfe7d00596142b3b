"""Workers say what they are about to do"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("state", sa.String(length=20), nullable=False, server_default="working"))
    op.add_column("workers", sa.Column("state_reason", sa.Text(), nullable=False, server_default=""))
    # SQLite adds no column that must have a value without a default; every row gets a better one at once: it is not
    # known since when, and the last that was heard of a worker is the best guess.
    long_ago = "1970-01-01 00:00:00+00:00"
    op.add_column("workers", sa.Column("state_at", sa.DateTime(timezone=True), nullable=False, server_default=long_ago))
    workers = sa.table("workers", sa.column("state_at"), sa.column("last_seen_at"))
    op.execute(workers.update().values(state_at=workers.c.last_seen_at))
