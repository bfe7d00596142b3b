"""Indexes by which a claim costs the same in a large fleet: of live leases by what they do, anchors, agreements"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0053"
down_revision: str | None = "0052"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NAME, TABLE = "ix_leases_live", "leases"
ANCHORS = sa.text("is_anchor")


def upgrade() -> None:
    op.drop_index(NAME, TABLE)
    op.create_index(NAME, TABLE, ["project_id", "state", "expires_at", "phase", "kind", "base_sha", "branch_id"])
    op.create_index("ix_workers_anchors", "workers", ["id"], sqlite_where=ANCHORS, postgresql_where=ANCHORS)
    op.create_index("ix_trust_records_volunteer", "trust_records", ["volunteer_id", "agreements"])
