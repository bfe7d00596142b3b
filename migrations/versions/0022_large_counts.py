"""Counts that workers report may exceed 2^31: PostgreSQL's integers have four bytes, SQLite's any number"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0022"
down_revision: str | None = "0021"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

COUNTS = {"runs": ("steps", "tokens", "parameters", "scored_bytes", "peak_memory_mib"), "leases": ("step",)}


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, names in COUNTS.items():
        for name in names:
            op.alter_column(table, name, type_=sa.BigInteger())
