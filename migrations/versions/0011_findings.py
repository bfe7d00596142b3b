"""Topics; versions, tags, notes and citations of findings; the index of their words"""

import re
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

ROWS_AT_ONCE = 1_000


def upgrade() -> None:
    op.add_column("leases", sa.Column("findings_read", sa.JSON()))
    _add_topics()
    _widen_findings()
    op.create_table(
        "finding_versions",
        sa.Column("finding_id", sa.Integer(), sa.ForeignKey("findings.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("words", sa.JSON(), nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False, unique=True),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "finding_tags",
        sa.Column("tag", sa.String(length=63), primary_key=True),
        sa.Column("finding_id", sa.Integer(), sa.ForeignKey("findings.id"), primary_key=True),
    )
    op.create_index(op.f("ix_finding_tags_finding_id"), "finding_tags", ["finding_id"])
    op.create_table(
        "finding_notes",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("finding_id", sa.Integer(), sa.ForeignKey("findings.id"), nullable=False),
        sa.Column("volunteer_id", sa.Integer(), sa.ForeignKey("volunteers.id"), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False, unique=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index(op.f("ix_finding_notes_finding_id"), "finding_notes", ["finding_id"])
    op.create_table(
        "citations",
        sa.Column("experiment_id", sa.Integer(), sa.ForeignKey("experiments.id"), primary_key=True),
        sa.Column("finding_id", sa.Integer(), sa.ForeignKey("findings.id"), primary_key=True),
    )
    op.create_index(op.f("ix_citations_finding_id"), "citations", ["finding_id"])
    # Both are filled by the program when it opens the database: it knows how words are taken apart.
    if op.get_bind().dialect.name == "sqlite":
        op.execute("CREATE VIRTUAL TABLE search_texts USING fts5(scope, head, body, tokenize='unicode61')")
    else:
        op.execute("CREATE SCHEMA search")
        op.execute(
            "CREATE TABLE search.texts (finding_id integer PRIMARY KEY, project_id integer NOT NULL, "
            "document tsvector NOT NULL)"
        )
        op.execute("CREATE INDEX texts_document ON search.texts USING gin (document)")


def _add_topics() -> None:
    op.add_column("experiments", sa.Column("topic", sa.String(length=80), nullable=False, server_default=""))
    connection = op.get_bind()
    axes = connection.execute(sa.text("SELECT DISTINCT axis FROM experiments")).scalars().all()
    change = sa.text("UPDATE experiments SET topic = :topic WHERE axis = :axis")
    for start in range(0, len(axes), ROWS_AT_ONCE):
        some = axes[start : start + ROWS_AT_ONCE]
        connection.execute(change, [{"axis": axis, "topic": _name_topic(axis)} for axis in some])
    op.create_index("ix_experiments_topic", "experiments", ["project_id", "topic"])


def _name_topic(axis: str) -> str:
    """As coordinator.experiments.service.name_topic was at this revision."""
    return "-".join(re.findall(r"[^\W_]+", axis.casefold()))[:80].strip("-") or "other"


def _widen_findings() -> None:
    op.add_column("findings", sa.Column("refuted_by", sa.Text(), nullable=False, server_default=""))
    op.add_column("findings", sa.Column("project_id", sa.Integer()))
    op.add_column("findings", sa.Column("hardware_class", sa.String(length=200), nullable=False, server_default=""))
    op.add_column("findings", sa.Column("tags", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("findings", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("findings", sa.Column("state", sa.String(length=20), nullable=False, server_default="published"))
    op.add_column("findings", sa.Column("failure", sa.String(length=20)))
    # What an author knew is not known of findings from before.
    op.add_column("findings", sa.Column("written_effect_mean", sa.Double()))
    op.add_column("findings", sa.Column("written_effect_sd", sa.Double()))
    op.add_column("findings", sa.Column("written_verdict", sa.String(length=20)))
    op.execute(
        "UPDATE findings SET "
        "project_id = (SELECT project_id FROM experiments WHERE experiments.id = findings.experiment_id), "
        "hardware_class = COALESCE((SELECT hardware_class FROM runs WHERE runs.id = "
        "(SELECT MIN(id) FROM runs WHERE runs.experiment_id = findings.experiment_id)), ''), "
        "failure = (SELECT CASE WHEN outcome = 'stopped_early' THEN 'hopeless' WHEN outcome = 'ok' THEN NULL "
        "ELSE outcome END FROM runs WHERE runs.id = "
        "(SELECT MIN(id) FROM runs WHERE runs.experiment_id = findings.experiment_id))"
    )
    with op.batch_alter_table("findings") as table:
        table.alter_column("project_id", existing_type=sa.Integer(), nullable=False)
        table.create_foreign_key(op.f("fk_findings_project_id_projects"), "projects", ["project_id"], ["id"])
    op.create_index("ix_findings_project_id_id", "findings", ["project_id", "id"])
    op.create_index("ix_findings_class", "findings", ["project_id", "hardware_class", "id"])
