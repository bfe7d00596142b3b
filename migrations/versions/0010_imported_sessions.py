"""Imported sessions, and commits whose code is lost"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("commits", sa.Column("has_code", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.create_table(
        "imported_sessions",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("branch", sa.String(length=200), nullable=False),
        sa.Column("source_sha", sa.String(length=40), nullable=False),
        sa.Column("worker_id", sa.Integer(), nullable=False),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_imported_sessions_project_id_projects"),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.id"], name="fk_imported_sessions_worker_id_workers"),
        sa.PrimaryKeyConstraint("project_id", name="pk_imported_sessions"),
    )
    op.create_table(
        "imported_lines",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["imported_sessions.project_id"],
            name="fk_imported_lines_project_id_imported_sessions",
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_imported_lines_run_id_runs"),
        sa.PrimaryKeyConstraint("project_id", "line", name="pk_imported_lines"),
    )
