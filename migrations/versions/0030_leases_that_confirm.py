"""An index of the few leases that confirm a record"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0030"
down_revision: str | None = "0029"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    is_confirm = sa.text("kind = 'confirm'")
    op.create_index("ix_leases_confirm", "leases", ["base_sha"], sqlite_where=is_confirm, postgresql_where=is_confirm)
