"""Quantities that a session does not say are empty, its further metrics are kept, its leases know their runs"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0045"
down_revision: str | None = "0044"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

MOMENT = sa.DateTime(timezone=True)
SECONDS = ("starting_seconds", "training_seconds", "scoring_seconds", "total_seconds")
COUNTS = ("steps", "tokens", "parameters", "scored_bytes")
NULLABLE: dict[str, sa.types.TypeEngine[object]] = {
    "seed": sa.Integer(),
    **dict.fromkeys(SECONDS, sa.Double()),
    **dict.fromkeys((*COUNTS, "peak_memory_mib"), sa.BigInteger().with_variant(sa.Integer(), "sqlite")),
    "started_at": MOMENT,
    "finished_at": MOMENT,
}
IMPORTED = "(SELECT id FROM leases WHERE token_sha256 = '" + 64 * "0" + "')"  # of no worker's token
UNKNOWN = ", ".join(f"{name} = NULL" for name in ("seed", "started_at", *SECONDS, *COUNTS))


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        # A new table would take the old one's place, to which other tables' keys refer; new columns do not.
        for name, kind in NULLABLE.items():
            op.add_column("runs", sa.Column(f"new_{name}", kind, nullable=True))
        op.execute("UPDATE runs SET " + ", ".join(f"new_{name} = {name}" for name in NULLABLE))  # noqa: S608  constants
        for name in NULLABLE:
            op.execute(f"ALTER TABLE runs DROP COLUMN {name}")
            op.execute(f"ALTER TABLE runs RENAME COLUMN new_{name} TO {name}")
    else:
        for name in NULLABLE:
            op.alter_column("runs", name, nullable=True)
    op.add_column("runs", sa.Column("metrics", sa.JSON(), nullable=True))
    op.add_column("experiments", sa.Column("done_at", MOMENT, nullable=True))
    op.execute("UPDATE experiments SET done_at = created_at")
    op.execute(
        f"UPDATE leases SET result_key = (SELECT uuid FROM runs WHERE runs.lease_id = leases.id) WHERE id IN {IMPORTED}"  # noqa: S608  constants
    )
    op.execute(f"UPDATE runs SET {UNKNOWN} WHERE lease_id IN {IMPORTED}")  # noqa: S608  constants
    op.execute(f"UPDATE runs SET peak_memory_mib = NULL WHERE peak_memory_mib = 0 AND lease_id IN {IMPORTED}")  # noqa: S608  constants
    lost = "(SELECT sha FROM commits WHERE NOT has_code)"
    op.execute(f"UPDATE runs SET finished_at = NULL WHERE commit_sha IN {lost} AND lease_id IN {IMPORTED}")  # noqa: S608  constants
    op.execute(
        "UPDATE experiments SET done_at = (SELECT issued_at FROM leases WHERE leases.id = experiments.lease_id) "  # noqa: S608  constants
        f"WHERE lease_id IN {IMPORTED}"
    )
    op.execute(f"UPDATE experiments SET done_at = NULL WHERE commit_sha IN {lost} AND lease_id IN {IMPORTED}")  # noqa: S608  constants
