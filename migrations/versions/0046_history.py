"""Histories of projects; what there is already enters each as its first batch"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0046"
down_revision: str | None = "0045"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

PENDING = sa.text("number IS NULL")


def upgrade() -> None:
    op.create_table(
        "history_entries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("subject_id", sa.Integer(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("leaf", sa.Text(), nullable=True),
        sa.Column("subtrees", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_history_entries_project_id_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_history_entries"),
        sa.UniqueConstraint("project_id", "number", name="uq_history_entries_project_id_number"),
        sa.UniqueConstraint("kind", "subject_id", "version", name="uq_history_entries_kind_subject_id_version"),
    )
    op.create_index(
        "ix_history_entries_pending", "history_entries", ["id"], sqlite_where=PENDING, postgresql_where=PENDING
    )
    op.create_table(
        "history_heads",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_history_heads_project_id_projects"),
        sa.PrimaryKeyConstraint("project_id", name="pk_history_heads"),
    )
    op.create_table(
        "history_keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("public", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_history_keys"),
    )
    add = "INSERT INTO history_entries (project_id, kind, subject_id, version) SELECT"
    finding = "FROM finding_versions JOIN findings ON findings.id = finding_versions.finding_id"
    op.execute(f"{add} project_id, 'result', id, 1 FROM runs ORDER BY id")
    op.execute(f"{add} project_id, 'paper', findings.id, number {finding} AND number < version WHERE number > 1")
    op.execute(f"{add} project_id, 'paper', id, version FROM findings WHERE version > 1")
    op.execute(
        f"{add} project_id, 'note', finding_notes.id, 1 FROM finding_notes "
        "JOIN findings ON findings.id = finding_notes.finding_id ORDER BY finding_notes.id"
    )
