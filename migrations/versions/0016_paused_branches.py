"""Branches are active or paused, and count experiments without gain: new names for the same states, moves and events"""

from collections.abc import Sequence

from alembic import op

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

RENAMED = (
    ("branches", "state", "living", "active"),
    ("branches", "state", "resting", "paused"),
    ("branch_moves", "kind", "rested", "paused"),
    ("branch_moves", "kind", "woken", "resumed"),
    ("events", "kind", "branch_rested", "branch_paused"),
    ("events", "kind", "branch_woken", "branch_resumed"),
)


def upgrade() -> None:
    op.execute("ALTER TABLE branches RENAME COLUMN fruitless TO experiments_without_gain")
    for table, column, before, after in RENAMED:
        op.execute(f"UPDATE {table} SET {column} = '{after}' WHERE {column} = '{before}'")  # noqa: S608  constants
