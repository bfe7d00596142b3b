"""Trust comes from anchors: who agreed with them, which runs may verify, and from which address a lease was claimed"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0023"
down_revision: str | None = "0022"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "trust_agreements",
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("hardware_class", sa.String(length=200), primary_key=True),
        sa.Column("volunteer_id", sa.Integer(), sa.ForeignKey("volunteers.id"), primary_key=True),
        sa.Column("commit_sha", sa.String(length=40), sa.ForeignKey("commits.sha"), primary_key=True),
        sa.Column("by_volunteer_id", sa.Integer(), sa.ForeignKey("volunteers.id"), primary_key=True),
        sa.Column("is_by_anchor", sa.Boolean(), nullable=False),
        sa.Column("agreed_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.add_column("runs", sa.Column("is_check", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("leases", sa.Column("is_check", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("leases", sa.Column("address_sha256", sa.String(length=64)))
    op.create_index("ix_leases_address_state", "leases", ["address_sha256", "state"])
    for table in ("runs", "leases"):
        op.execute(f"UPDATE {table} SET is_check = false WHERE kind NOT IN ('replicate', 'control')")  # noqa: S608  constants
    # Strangers established each other. What rests on that alone is corroborated from now on: the posteriors are derived
    # again when the database is opened.
    op.execute("UPDATE runs SET trust = 'newcomer' WHERE trust = 'established'")
