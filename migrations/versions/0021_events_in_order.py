"""Events know when PostgreSQL gave them their number, so that readers wait for lower ones that appear later"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0021"
down_revision: str | None = "0020"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("events", sa.Column("numbered_at", sa.DateTime(timezone=True)))
    if op.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time
        op.execute("ALTER TABLE events ALTER COLUMN numbered_at SET DEFAULT clock_timestamp()")
