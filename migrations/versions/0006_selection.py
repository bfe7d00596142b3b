"""Branches rest, experiments are assembled from steps, kinds of job have shares"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Branches from before live; how long they have gained nothing is not known, so counting begins here.
    op.add_column("branches", sa.Column("state", sa.String(length=20), nullable=False, server_default="living"))
    op.add_column("branches", sa.Column("fruitless", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("branches", sa.Column("gained_experiment_id", sa.Integer()))
    op.add_column("branch_moves", sa.Column("kind", sa.String(length=20), nullable=False, server_default="moved"))
    op.execute("UPDATE branch_moves SET kind = 'born' WHERE from_sha IS NULL")
    op.add_column("leases", sa.Column("assignment", sa.JSON()))
    op.add_column("experiments", sa.Column("insists", sa.Text(), nullable=False, server_default=""))
    op.add_column("calibrations", sa.Column("parent_sha", sa.String(length=40)))
    op.create_table(
        "assembled_steps",
        sa.Column("experiment_id", sa.Integer(), sa.ForeignKey("experiments.id"), primary_key=True),
        sa.Column("step_id", sa.Integer(), sa.ForeignKey("experiments.id"), primary_key=True),
        sa.Column("fate", sa.String(length=20), nullable=False),
    )
    op.create_index(op.f("ix_assembled_steps_step_id"), "assembled_steps", ["step_id"])
    op.create_table(
        "kind_shares",
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("kind", sa.String(length=20), primary_key=True),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("gain", sa.Double(), nullable=False),
        sa.Column("gpu_seconds", sa.Double(), nullable=False),
        sa.Column("experiments", sa.Integer(), nullable=False),
        sa.Column("through_run_id", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
