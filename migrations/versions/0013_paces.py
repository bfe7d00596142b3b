"""Findings know how fast their first run was beside its parent"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Not known of findings that are there: their parents' runs may be of other workers, or of none.
    op.add_column("findings", sa.Column("pace", sa.Double()))
