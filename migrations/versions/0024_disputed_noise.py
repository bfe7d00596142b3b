"""An epoch says if its noise is so large that a maintainer should look at the runs"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0024"
down_revision: str | None = "0023"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("evidence_epochs", sa.Column("disputed_noise_sd", sa.Double()))
