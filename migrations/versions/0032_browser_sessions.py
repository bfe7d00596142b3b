"""Sessions in a browser, passwords, and which accounts a maintainer approved"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0032"
down_revision: str | None = "0031"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    # Accounts from before could read where reading is not public, and go on doing so.
    op.add_column("volunteers", sa.Column("is_approved", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.create_table(
        "browser_sessions",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("volunteer_id", sa.Integer(), sa.ForeignKey("volunteers.id"), nullable=False),
        sa.Column("token_id", sa.Integer(), sa.ForeignKey("tokens.id")),
        sa.Column("sha256", sa.String(length=64), nullable=False, unique=True),
        sa.Column("scope", sa.String(length=20), nullable=False),
        sa.Column("browser", sa.String(length=200), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
    )
    op.create_index("ix_browser_sessions_volunteer_id", "browser_sessions", ["volunteer_id"])
    op.create_table(
        "passwords",
        sa.Column("volunteer_id", sa.Integer(), sa.ForeignKey("volunteers.id"), primary_key=True),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("scope", sa.String(length=20), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
    )
