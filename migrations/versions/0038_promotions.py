"""Promotions: records that are run on a rung of the contract beside the last promoted commit"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0038"
down_revision: str | None = "0037"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    for table in ("leases", "runs"):
        op.add_column(table, sa.Column("rung", sa.String(length=63)))
    numbers = ("effect_mean", "effect_sd", "budget_effect_mean", "budget_effect_sd", "ratio", "ratio_low", "ratio_high")
    op.create_table(
        "promotions",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id"), nullable=False),
        sa.Column("hardware_class", sa.String(length=200), nullable=False),
        sa.Column("rung", sa.String(length=63), nullable=False),
        sa.Column("commit_sha", sa.String(length=40), sa.ForeignKey("commits.sha"), nullable=False),
        sa.Column("base_sha", sa.String(length=40), sa.ForeignKey("commits.sha"), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("pairs", "volunteers", "left_out")),
        *(sa.Column(name, sa.Double()) for name in numbers),
        sa.Column("holds", sa.Boolean()),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("project_id", "hardware_class", "rung", "commit_sha"),
    )
    op.create_index("ix_promotions_commit", "promotions", ["commit_sha"])
    op.create_table(
        "promotion_leases",
        sa.Column("lease_id", sa.Uuid(), sa.ForeignKey("leases.id"), primary_key=True),
        sa.Column("promotion_id", sa.Integer(), sa.ForeignKey("promotions.id"), nullable=False),
    )
    op.create_index("ix_promotion_leases_promotion", "promotion_leases", ["promotion_id"])
