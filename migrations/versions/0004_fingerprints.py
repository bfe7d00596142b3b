"""Proposals have a fingerprint"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Proposals from before have none: they are still known by their trees.
    op.add_column("leases", sa.Column("proposed_fingerprint", sa.String(length=64)))
    op.create_index("ix_leases_fingerprint", "leases", ["project_id", "proposed_fingerprint"])
    op.create_index(op.f("ix_experiments_lease_id"), "experiments", ["lease_id"])
