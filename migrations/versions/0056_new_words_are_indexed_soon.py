"""On PostgreSQL few new findings wait to be put into the index of words: each search reads all that wait"""

from collections.abc import Sequence

from alembic import op

revision: str = "0056"
down_revision: str | None = "0055"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX search.texts_document SET (gin_pending_list_limit = 64)")  # KiB, of 4 MiB
