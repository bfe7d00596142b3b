"""Duties of maintainers: sanctions, expiring tokens, invitations, an audit log, decisions on held results, branches"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0025"
down_revision: str | None = "0024"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("volunteers", sa.Column("suspension", sa.Text()))
    op.add_column("volunteers", sa.Column("is_pending", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("volunteers", sa.Column("address_sha256", sa.String(length=64)))
    op.create_index("ix_volunteers_address", "volunteers", ["address_sha256", "created_at"])
    op.add_column("tokens", sa.Column("scope", sa.String(length=20), nullable=False, server_default="work"))
    op.add_column("tokens", sa.Column("expires_at", MOMENT))
    op.create_table(
        "sign_in_links",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("volunteer_id", sa.Integer(), sa.ForeignKey("volunteers.id"), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False, unique=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("used_at", MOMENT),
    )
    op.create_table(
        "invitations",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("sha256", sa.String(length=64), nullable=False, unique=True),
        sa.Column("created_by", sa.String(length=80), nullable=False),
        sa.Column("max_uses", sa.Integer(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT),
    )
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("volunteer_id", sa.Integer(), sa.ForeignKey("volunteers.id")),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=20), nullable=False),
        sa.Column("key", sa.String(length=400), nullable=False, index=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("before", sa.JSON()),
        sa.Column("after", sa.JSON()),
        sa.Column("undoes_id", sa.Integer(), sa.ForeignKey("audit_entries.id"), unique=True),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    op.create_table(
        "held_decisions",
        sa.Column("commit_sha", sa.String(length=40), sa.ForeignKey("commits.sha"), primary_key=True),
        sa.Column("hardware_class", sa.String(length=200), primary_key=True),
        sa.Column("decision", sa.String(length=20), nullable=False),
        sa.Column("decided_by", sa.String(length=80), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decided_at", MOMENT, nullable=False),
    )
    op.add_column("due_replications", sa.Column("for_anchors", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("branches", sa.Column("share", sa.Double()))
    op.add_column("branches", sa.Column("is_locked", sa.Boolean(), nullable=False, server_default=sa.false()))
    # Alembic's own way would copy SQLite's whole table to add a foreign key.
    op.execute(
        "ALTER TABLE branches ADD COLUMN volunteer_id INTEGER "
        "CONSTRAINT fk_branches_volunteer_id_volunteers REFERENCES volunteers (id)"
    )
