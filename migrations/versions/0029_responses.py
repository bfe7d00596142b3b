"""A worker's offset is that at a metric, its pivot, because its gains may be larger than others'"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0029"
down_revision: str | None = "0028"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("calibrations", sa.Column("pivot", sa.Double()))
