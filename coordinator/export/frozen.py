"""Copies what is public of one project into a new SQLite database, as it was at one moment.

Tables that are not named here are left out: tokens, sessions, passwords, invitations, the audit log, reports, the
secret of sealed windows, what agents got to read. Of those that are, private columns are `REPLACED`, and `_hide` takes
out what quarantines hide.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, insert, or_, select, text, update
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable

from coordinator.db.database import Database
from coordinator.findings import service as findings
from coordinator.git_http.packs import list_history
from coordinator.git_http.queries import list_stored_objects
from coordinator.models import (
    AssembledStep,
    Base,
    Branch,
    BranchMove,
    Citation,
    Commit,
    Experiment,
    Finding,
    FindingNote,
    FindingTag,
    FindingVersion,
    HeldDecision,
    HistoryKey,
    Lease,
    Project,
    PromotionLease,
    Run,
    StoredObject,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.projects.settings import settings_of
from shared.workers import Role, WorkerState

ROWS_AT_ONCE = 1_000
HIDDEN = "Hidden while its author is in quarantine"

REPLACED: Mapping[str, Mapping[str, Any]] = {
    "volunteers": {
        "role": Role.VOLUNTEER, "suspension": None, "address_sha256": None, "is_pending": False, "is_approved": True,
    },
    "workers": {
        "pause": None, "message": None, "message_number": 0, "message_shown_at": None, "state": WorkerState.WORKING,
        "state_reason": "",
    },
    "leases": {
        "token_sha256": "0" * 64, "address_sha256": None, "proposal": None, "result_sha256": None, "result_reply": None,
    },
    "runs": {"holdout_metric": None},
    "held_decisions": {"decided_by": "a maintainer", "reason": ""},
    "history_keys": {"secret": None},
}  # fmt: skip
"""Columns that are private, by table, each with the value that stands in their place."""

OF_PROJECT = (
    "branches", "commits", "leases", "imported_sessions", "experiments", "runs", "commit_posteriors", "evidence_epochs",
    "calibrations", "past_offsets", "trust_records", "trust_agreements", "due_replications", "holdout_checks",
    "promotions", "kind_shares", "findings", "imported_lines", "class_progress", "progress_bins", "leader_changes",
    "contributions", "topic_counts", "history_entries", "history_heads",
)  # fmt: skip
"""Tables whose rows name their project."""


def freeze(session: Session, project: Project, file: Path) -> None:
    """Write what is public of a project to a new SQLite database."""
    target = Database(f"sqlite:///{file}")
    try:
        target.migrate()
        with target.write() as frozen:
            frozen.execute(text("PRAGMA defer_foreign_keys = ON"))
            _make_again(frozen, table_of(Finding))
            for table, chosen in _choose(project.id):
                _copy(session, frozen, table, chosen)
            _copy_objects(session, frozen, project.id)
            _hide(frozen, settings_of(project).model_copy(update={"members": []}).model_dump_json())
            findings.index_missing(frozen)
    finally:
        target.close()


def _make_again(frozen: Session, table: Table) -> None:
    """Make an empty table anew. Migration 0011 lets Alembic write this one, with its constraints in any order."""
    frozen.execute(DropTable(table))
    frozen.execute(CreateTable(table))
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        frozen.execute(CreateIndex(index))


def _choose(project_id: int) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    """The tables to copy, each with the condition of its rows."""
    runs = select(Run.lease_id).where(Run.project_id == project_id)
    own = {model: select(model.id).where(model.project_id == project_id) for model in (Experiment, Finding, Branch)}
    workers = select(Run.worker_id).where(Run.project_id == project_id)
    leases = or_(
        Lease.id.in_(runs), Lease.id.in_(select(Experiment.lease_id).where(Experiment.project_id == project_id))
    )
    people = (
        select(Worker.volunteer_id).where(Worker.id.in_(workers)),
        select(Branch.volunteer_id).where(Branch.project_id == project_id),
        select(FindingNote.volunteer_id).where(FindingNote.finding_id.in_(own[Finding])),
    )
    special: Mapping[Any, ColumnElement[bool]] = {
        Project: Project.id == project_id,
        Volunteer: or_(*(Volunteer.id.in_(some) for some in people)),
        Worker: Worker.id.in_(workers),
        BranchMove: BranchMove.branch_id.in_(own[Branch]),
        HeldDecision: HeldDecision.commit_sha.in_(select(Commit.sha).where(Commit.project_id == project_id)),
        PromotionLease: PromotionLease.lease_id.in_(runs),
        AssembledStep: AssembledStep.experiment_id.in_(own[Experiment]),
        FindingVersion: FindingVersion.finding_id.in_(own[Finding]),
        FindingTag: FindingTag.finding_id.in_(own[Finding]),
        FindingNote: FindingNote.finding_id.in_(own[Finding]),
        Citation: Citation.experiment_id.in_(own[Experiment]),
        HistoryKey: HistoryKey.id.is_not(None),
    }
    for model, condition in special.items():
        yield table_of(model), condition
    for name in OF_PROJECT:
        table = Base.metadata.tables[name]
        condition = table.c.project_id == project_id
        if name == "leases":
            condition &= leases
        elif name == "history_entries":
            condition &= table.c.number.is_not(None)
        yield table, condition


def _copy(source: Session, target: Session, table: Table, chosen: ColumnElement[bool]) -> None:
    query = select(table).where(chosen).order_by(*table.primary_key.columns)
    replaced = REPLACED.get(table.name, {})
    with source.execute(query.execution_options(yield_per=ROWS_AT_ONCE)) as rows:
        for some in rows.mappings().partitions():
            target.execute(insert(table), [{**row, **replaced} for row in some])


def _copy_objects(source: Session, target: Session, project_id: int) -> None:
    # While an object waits for its base, SQLite looks with each further one whether it is what some object waits for.
    target.execute(text("CREATE INDEX waiting_objects ON git_objects (base_sha)"))
    with list_history(source, project_id) as objects:
        for listed in objects.read_chunks(ROWS_AT_ONCE):
            rows = list_stored_objects(source, [one.sha for one in listed])
            target.execute(
                insert(table_of(StoredObject)), sorted((row._asdict() for row in rows), key=itemgetter("sha"))
            )
    target.execute(text("DROP INDEX waiting_objects"))


def _hide(target: Session, settings: str) -> None:
    """Take out members' names, and the words of those who are in quarantine."""
    target.execute(update(Project).values(settings=settings))
    for quarantined in (Volunteer, Worker):
        target.execute(
            update(quarantined).where(quarantined.quarantine.is_not(None)).values(quarantine="in quarantine")
        )
    hidden = select(Finding.id).where(Finding.is_hidden)
    of_hidden = Experiment.id.in_(select(Finding.experiment_id).where(Finding.is_hidden))
    for model in (FindingVersion, FindingTag, FindingNote):
        target.execute(delete(model).where(model.finding_id.in_(hidden)))
    texts = dict.fromkeys(("mechanism", "caveats", "refuted_by", "follow_ups"), "")
    target.execute(update(Finding).where(Finding.is_hidden).values(claim=HIDDEN, tags=[], **texts))
    texts = dict.fromkeys(("hypothesis", "axis", "topic", "value", "refuted_by", "insists"), "")
    target.execute(update(Experiment).where(of_hidden).values(title=HIDDEN, settings={}, **texts))


def compact(file: Path) -> None:
    """Make a copy that nobody has open one file, without what was taken out, the same bytes for the same rows."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = delete")
        connection.execute("vacuum")
