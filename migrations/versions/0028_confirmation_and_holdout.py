"""Sealed windows: the secret of each project, what runs measured there, and what was let out"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision: str = "0028"
down_revision: str | None = "0027"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    keys = op.create_table(
        "holdout_secrets",
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    for (project_id,) in op.get_bind().execute(sa.text("SELECT id FROM projects")).all():
        row = {"project_id": project_id, "secret": secrets.token_hex(32), "created_at": datetime.now(UTC)}
        op.execute(keys.insert().values(row))
    op.add_column("runs", sa.Column("holdout_metric", sa.Double()))
    op.create_table(
        "holdout_checks",
        sa.Column("commit_sha", sa.String(length=40), sa.ForeignKey("commits.sha"), primary_key=True),
        sa.Column("hardware_class", sa.String(length=200), primary_key=True),
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("released", sa.Double()),
        sa.Column("step", sa.Double(), nullable=False),
        sa.Column("gap_mean", sa.Double()),
        sa.Column("gap_sd", sa.Double()),
        sa.Column("is_alarm", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_holdout_checks_class", "holdout_checks", ["project_id", "hardware_class"])
