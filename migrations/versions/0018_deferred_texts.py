"""Texts that wait for a vector survive a restart"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "deferred_texts",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("subject", sa.String(20), nullable=False),
        sa.Column("key", sa.String(36), nullable=False),
        sa.Column("parts", sa.JSON(), nullable=False),
    )
    op.create_index("ix_deferred_texts_subject_key", "deferred_texts", ["subject", "key"])
