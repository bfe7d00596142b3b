"""Offsets of workers, milestones, and quarantine"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("volunteers", sa.Column("quarantine", sa.Text()))
    op.add_column("workers", sa.Column("quarantine", sa.Text()))
    for name in ("milestone_mean", "milestone_sd", "anchor_sd"):
        op.add_column("commit_posteriors", sa.Column(name, sa.Double()))
    op.add_column("commit_posteriors", sa.Column("checkers", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("kind", sa.String(length=20), nullable=False, server_default="improve"))
    op.add_column("runs", sa.Column("counts", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.execute("UPDATE runs SET kind = (SELECT leases.kind FROM leases WHERE leases.id = runs.lease_id)")
    op.create_table(
        "evidence_epochs",
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("hardware_class", sa.String(length=200), primary_key=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("noise_sd", sa.Double(), nullable=False),
        sa.Column("through_run_id", sa.Integer(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "calibrations",
        sa.Column("project_id", sa.Integer(), sa.ForeignKey("projects.id"), primary_key=True),
        sa.Column("hardware_class", sa.String(length=200), primary_key=True),
        sa.Column("worker_id", sa.Integer(), sa.ForeignKey("workers.id"), primary_key=True),
        sa.Column("volunteer_id", sa.Integer(), sa.ForeignKey("volunteers.id"), nullable=False),
        sa.Column("offset_mean", sa.Double()),
        sa.Column("offset_sd", sa.Double()),
        sa.Column("through_run_id", sa.Integer()),
        sa.Column("jobs_done", sa.Integer(), nullable=False),
        sa.Column("seed_measured", sa.Integer(), nullable=False),
        sa.Column("seed_failed", sa.Integer(), nullable=False),
        sa.Column("failures_in_row", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    # Each worker with runs is known, without an offset yet: the coordinator estimates them when it starts.
    op.execute(
        """
        INSERT INTO calibrations (project_id, hardware_class, worker_id, volunteer_id, jobs_done, seed_measured,
                                  seed_failed, failures_in_row, updated_at)
        SELECT runs.project_id, runs.hardware_class, runs.worker_id, workers.volunteer_id, count(*),
               sum(CASE WHEN runs.commit_sha = projects.root_sha AND runs.outcome = 'ok' THEN 1 ELSE 0 END),
               sum(CASE WHEN runs.commit_sha = projects.root_sha AND runs.outcome <> 'ok' THEN 1 ELSE 0 END),
               0, max(runs.created_at)
        FROM runs JOIN workers ON workers.id = runs.worker_id JOIN projects ON projects.id = runs.project_id
        GROUP BY runs.project_id, runs.hardware_class, runs.worker_id, workers.volunteer_id
        """
    )
