"""Workers' versions, pauses and offsets through epochs, what volunteers contributed, and the indexes of their pages"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0040"
down_revision: str | None = "0039"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

MOMENT = sa.DateTime(timezone=True)
PARTIAL = (
    ("ix_runs_failed", "runs", ["worker_id", "id"], "outcome <> 'ok'"),
    ("ix_commit_posteriors_verified", "commit_posteriors", ["commit_sha"], "standing = 'verified'"),
)


def upgrade() -> None:
    op.add_column("workers", sa.Column("version", sa.String(length=40), nullable=False, server_default=""))
    op.add_column("workers", sa.Column("pause", sa.Text()))
    op.add_column("volunteers", sa.Column("is_unlisted", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("ix_workers_seen", "workers", ["last_seen_at", "id"])
    op.create_index("ix_leases_worker_issued", "leases", ["worker_id", "issued_at"])
    for name, table, columns, condition in PARTIAL:
        where = sa.text(condition)
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "past_offsets",
        sa.Column("worker_id", sa.Integer(), sa.ForeignKey("workers.id"), primary_key=True),
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("hardware_class", sa.String(length=200), primary_key=True),
        sa.Column("epoch", sa.Integer(), primary_key=True),
        sa.Column("offset_mean", sa.Double(), nullable=False),
        sa.Column("offset_sd", sa.Double(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
    )
    op.create_table(
        "contributions",
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("hardware_class", sa.String(length=200), primary_key=True),
        sa.Column("volunteer_id", sa.Integer(), sa.ForeignKey("volunteers.id"), primary_key=True),
        sa.Column("month", sa.String(length=7), primary_key=True),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("experiments", sa.Integer(), nullable=False),
        sa.Column("checks", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
    )
    op.create_index("ix_contributions_month", "contributions", ["month"])
    op.create_index("ix_contributions_volunteer", "contributions", ["volunteer_id"])
    op.execute(sa.text("UPDATE class_progress SET is_stale = true"))  # who contributed is counted from the first run
