"""A posterior holds the metric as its commit's own runs tell it, too; all are derived again by this release's rules"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0057"
down_revision: str | None = "0056"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    for name in ("measured_mean", "measured_sd"):
        op.add_column("commit_posteriors", sa.Column(name, sa.Double(), nullable=True))
