"""Objects may be deltas"""

from collections.abc import Sequence

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # In words that both engines take. Alembic's own way would copy SQLite's whole table to add a foreign key.
    op.execute(
        "ALTER TABLE git_objects ADD COLUMN base_sha VARCHAR(40) "
        "CONSTRAINT fk_git_objects_base_sha_git_objects REFERENCES git_objects (sha)"
    )
