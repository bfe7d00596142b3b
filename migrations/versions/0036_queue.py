"""Reports of findings, marks of what waits for moderators, and the indexes by which it is found"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0036"
down_revision: str | None = "0035"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

MOMENT = sa.DateTime(timezone=True)
WAITING = (
    ("ix_commit_posteriors_held", "commit_posteriors", "updated_at", "standing = 'held'"),
    ("ix_commit_posteriors_disputed", "commit_posteriors", "updated_at", "dispute <> 'none'"),
    ("ix_calibrations_failing", "calibrations", "updated_at", "failures_in_row >= 3"),
    ("ix_volunteers_pending", "volunteers", "created_at", "is_pending"),
    ("ix_branches_proposed", "branches", "created_at", "state = 'proposed'"),
)


def upgrade() -> None:
    op.create_table(
        "finding_reports",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("finding_id", sa.Integer(), sa.ForeignKey("findings.id"), nullable=False),
        sa.Column("volunteer_id", sa.Integer(), sa.ForeignKey("volunteers.id")),
        sa.Column("address_sha256", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    op.create_index("ix_finding_reports_finding_id", "finding_reports", ["finding_id"])
    op.create_index("ix_finding_reports_created_at", "finding_reports", ["created_at"])
    op.create_index("ix_finding_reports_address", "finding_reports", ["address_sha256", "created_at"])
    op.create_table(
        "queue_marks",
        sa.Column("item", sa.String(length=400), primary_key=True),
        sa.Column("assigned_to", sa.String(length=63)),
        sa.Column("dismissed_state", sa.String(length=80)),
    )
    for name, table, column, condition in WAITING:
        where = sa.text(condition)
        op.create_index(name, table, [column], sqlite_where=where, postgresql_where=where)
    for column in ("actor", "action", "subject"):
        op.create_index(f"ix_audit_entries_{column}", "audit_entries", [column, "id"])
