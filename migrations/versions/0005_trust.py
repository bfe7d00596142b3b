"""Anchors, trust, disputes, and replications that trust demands"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("is_anchor", sa.Boolean(), nullable=False, server_default=sa.false()))
    # What was verified before anybody's record was kept stays so.
    op.add_column("runs", sa.Column("trust", sa.String(length=20), nullable=False, server_default="established"))
    op.add_column(
        "commit_posteriors", sa.Column("dispute", sa.String(length=20), nullable=False, server_default="none")
    )
    # Posteriors from before are derived again by the present rules when the database is opened.
    op.add_column("evidence_epochs", sa.Column("rules", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "trust_records",
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("volunteer_id", sa.Integer(), sa.ForeignKey("volunteers.id"), primary_key=True),
        sa.Column("agreements", sa.Integer(), nullable=False),
        sa.Column("contradictions", sa.Integer(), nullable=False),
        sa.Column("claims", sa.Integer(), nullable=False),
        sa.Column("replications_due", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "due_replications",
        sa.Column("commit_sha", sa.String(length=40), sa.ForeignKey("commits.sha"), primary_key=True),
        sa.Column("hardware_class", sa.String(length=200), primary_key=True),
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("volunteer_id", sa.Integer(), sa.ForeignKey("volunteers.id"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_due_replications_class", "due_replications", ["project_id", "hardware_class", "created_at"])
