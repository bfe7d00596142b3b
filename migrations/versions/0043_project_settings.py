"""Versions of projects' settings, and messages to workers"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0043"
down_revision: str | None = "0042"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("projects", sa.Column("settings", sa.Text(), nullable=False, server_default=""))
    op.add_column("projects", sa.Column("settings_version", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "project_versions",
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=80), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    op.add_column("workers", sa.Column("message", sa.Text()))
    op.add_column("workers", sa.Column("message_number", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("workers", sa.Column("message_shown_at", MOMENT))
