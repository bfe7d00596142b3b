"""The lines of a history, from the rows that they are about, and whether they still say the same."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import and_, exists, select
from sqlalchemy.orm import Session

from coordinator.models import (
    Finding,
    FindingNote,
    FindingVersion,
    HistoryEntry,
    HistoryHead,
    HistoryKey,
    Project,
    Run,
    Volunteer,
    Worker,
    table_of,
)
from shared import checkpoints
from shared.checkpoints import CheckpointError
from shared.history import WORDS, LeafKind, NoteLeaf, PaperLeaf, ResultLeaf, hash_text, hash_words, write_leaf
from shared.merkle import GrowingTree

ENTRIES_AT_ONCE = 1_000
_RUNS, _ENTRIES = table_of(Run), table_of(HistoryEntry)
_NAMED: dict[str, Any] = {
    "project": Project.name.label("project"),
    "worker": Worker.name.label("worker"),
    "volunteer": Volunteer.name.label("volunteer"),
}
_RESULTS = (
    select(*(_NAMED[name] if name in _NAMED else _RUNS.c[name] for name in ResultLeaf.model_fields))
    .select_from(_RUNS)
    .join(Project, Project.id == _RUNS.c.project_id)
    .join(Worker, Worker.id == _RUNS.c.worker_id)
    .join(Volunteer, Volunteer.id == Worker.volunteer_id)
)

_PLACED_EXPERIMENTS = (
    select(Run.experiment_id)
    .join(HistoryEntry, and_(HistoryEntry.kind == LeafKind.RESULT, HistoryEntry.subject_id == Run.id))
    .where(HistoryEntry.number.is_not(None), Run.experiment_id.is_not(None))
)


def write_lines(session: Session, entries: Sequence[HistoryEntry]) -> dict[int, str]:
    """The line of each entry by the entry's id, as the rows say it now; entries whose row is gone are left out."""
    by_kind: dict[str, dict[tuple[int | None, int], int]] = {}
    for entry in entries:
        by_kind.setdefault(entry.kind, {})[entry.subject_id, entry.version] = entry.id
    lines = {entry.id: entry.leaf for entry in entries if entry.leaf is not None and entry.subject_id is None}
    writers = {LeafKind.RESULT: _write_results, LeafKind.PAPER: _write_papers, LeafKind.NOTE: _write_notes}
    for kind, write in writers.items():
        wanted = by_kind.get(kind, {})
        ids = [subject_id for subject_id, _ in wanted if subject_id is not None]
        lines |= {wanted[key]: line for key, line in write(session, ids) if key in wanted}
    return lines


Lines = Iterator[tuple[tuple[int, int], str]]
"""Lines with the number of the row and its version."""


def _write_results(session: Session, ids: Sequence[int]) -> Lines:
    for row in session.execute(_RESULTS.where(_RUNS.c.id.in_(ids))).mappings():
        yield (row["id"], 1), write_leaf(LeafKind.RESULT, ResultLeaf.model_validate(dict(row)))


def _write_papers(session: Session, ids: Sequence[int]) -> Lines:
    found = {finding.id: finding for finding in session.scalars(select(Finding).where(Finding.id.in_(ids)))}
    versions = session.execute(
        select(FindingVersion.finding_id, FindingVersion.number, FindingVersion.words).where(
            FindingVersion.finding_id.in_(found)
        )
    ).all()
    newest = [(one.id, one.version, {name: getattr(one, name) for name in WORDS}) for one in found.values()]
    for finding_id, version, words in [*versions, *newest]:
        leaf = PaperLeaf(
            finding_id=finding_id, experiment_id=found[finding_id].experiment_id, version=version,
            words_sha256=hash_words(words),
        )  # fmt: skip
        yield (finding_id, version), write_leaf(LeafKind.PAPER, leaf)


def _write_notes(session: Session, ids: Sequence[int]) -> Lines:
    for note in session.scalars(select(FindingNote).where(FindingNote.id.in_(ids))):
        leaf = NoteLeaf(
            id=note.id, finding_id=note.finding_id, kind=note.kind, text_sha256=hash_text(note.text),
            created_at=note.created_at,
        )  # fmt: skip
        yield (note.id, 1), write_leaf(LeafKind.NOTE, leaf)


def find_differences(session: Session) -> Iterator[str]:
    """All that the logs and the rows do not agree on, each in a line."""
    for project in session.scalars(select(Project).order_by(Project.id)).all():
        yield from (f"history of {project.name}: {line}" for line in _check_log(session, project))
    for kind, model in ((LeafKind.RESULT, Run), (LeafKind.PAPER, Finding), (LeafKind.NOTE, FindingNote)):
        is_entered = exists().where(and_(_ENTRIES.c.kind == kind, _ENTRIES.c.subject_id == model.id))
        query = select(model.id).where(~is_entered).order_by(model.id)
        if model is Finding:  # its first version enters behind the result that it came with
            query = query.where(Finding.experiment_id.in_(_PLACED_EXPERIMENTS))
        for subject_id in session.scalars(query):
            yield f"history: {kind} {subject_id} never entered it"


def _check_log(session: Session, project: Project) -> Iterator[str]:
    tree, head = GrowingTree(), session.get(HistoryHead, project.id)
    is_placed = HistoryEntry.project_id == project.id, HistoryEntry.number.is_not(None)
    while True:
        query = select(HistoryEntry).where(*is_placed, HistoryEntry.number >= tree.size)
        page = session.scalars(query.order_by(HistoryEntry.number).limit(ENTRIES_AT_ONCE)).all()
        if not page:
            break
        lines = write_lines(session, page)
        for entry in page:
            if entry.number != tree.size:
                yield f"entry {tree.size} is missing"
                return
            if entry.leaf != lines.get(entry.id, entry.leaf if entry.subject_id is None else None):
                of = f"{entry.kind} {entry.subject_id}"
                yield f"entry {entry.number} says of {of}: {entry.leaf}; the rows say {lines.get(entry.id, 'nothing')}"
            if b"".join(tree.append((entry.leaf or "").encode())) != entry.subtrees:
                yield f"entry {entry.number} is not the one that was entered, or one before it is not"
                return
        session.expunge_all()
    yield from _check_head(session, head, tree)


def _check_head(session: Session, head: HistoryHead | None, tree: GrowingTree) -> Iterator[str]:
    if head is None:
        if tree.size:
            yield f"it has {tree.size} entries and no checkpoint"
        return
    try:
        checkpoint = checkpoints.parse(head.note)
        keys = session.scalars(select(HistoryKey.public)).all()
        is_signed = any(checkpoints.is_signed_by(head.note, key) for key in keys)
    except CheckpointError as error:
        yield f"its checkpoint: {error}"
        return
    if (checkpoint.size, checkpoint.root, head.size) != (tree.size, tree.root(), tree.size):
        yield f"its checkpoint is of {checkpoint.size} entries with another root than the {tree.size} that there are"
    if not is_signed:
        yield "its checkpoint is not signed by a key of this coordinator"
