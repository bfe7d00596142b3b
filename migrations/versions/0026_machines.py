"""Budgets are normalised by the seed's throughput, and workers have a gain factor besides their offset"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0026"
down_revision: str | None = "0025"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    for table in ("leases", "runs"):  # all that are there had the contract's budget
        op.add_column(table, sa.Column("pace", sa.Double(), nullable=False, server_default="1"))
        op.add_column(table, sa.Column("seed_throughput", sa.Double()))
    for name in ("gain_mean", "gain_sd", "seed_throughput"):
        op.add_column("calibrations", sa.Column(name, sa.Double()))
    for name in ("offset_sd", "gain_sd", "throughput_slope", "centre", "seed_throughput"):
        op.add_column("evidence_epochs", sa.Column(name, sa.Double()))
