"""The log of a project's history: entries come in with what they are about, a sequencer gives them their places.

On PostgreSQL several transactions store results at once, so what they add has no place yet. `append_pending` gives
places in the order of ids, one transaction at a time, and signs the new root. `history_leaves` writes the lines.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, exists, func, insert, select, update
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.db.engine import Conn
from coordinator.db.locks import AdvisoryLock, lock_until_commit
from coordinator.events.history_leaves import write_lines
from coordinator.http.errors import NotFoundError, must_find
from coordinator.models import Finding, HistoryEntry, HistoryHead, HistoryKey, Project, Run, Worker, table_of
from coordinator.models.history import IS_PENDING
from shared import checkpoints
from shared.checkpoints import Checkpoint
from shared.history import LeafKind, write_leaf
from shared.merkle import GrowingTree, Range, Subtree, join, split
from shared.protocol import now

ENTRIES_AT_ONCE = 1_000
HASH_BYTES = 32

_ENTRIES = table_of(HistoryEntry)
_ADD = insert(_ENTRIES)
_PLACE = (
    update(_ENTRIES)
    .where(_ENTRIES.c.id == bindparam("entry_id"))
    .values(number=bindparam("new_number"), leaf=bindparam("new_leaf"), subtrees=bindparam("new_subtrees"))
)


def enter(session: Conn, project_id: int, kind: LeafKind, subject_id: int, version: int = 1) -> None:
    """Add what a row says to its project's log, in the transaction that stores the row."""
    session.execute(_ADD, {"project_id": project_id, "kind": kind, "subject_id": subject_id, "version": version})


def enter_decision(session: Conn, project_ids: Sequence[int], **content: Any) -> None:
    """Add a moderators' decision to the logs of projects, without its author and reason."""
    _enter_lines(session, project_ids, LeafKind.MODERATION, content)


def enter_restore(session: Conn) -> None:
    """Note in all logs that the database was filled from a backup: what followed there is lost."""
    _enter_lines(session, session.scalars(select(HistoryHead.project_id)).all(), LeafKind.RESTORED, {})


def _enter_lines(session: Conn, project_ids: Sequence[int], kind: LeafKind, content: Mapping[str, Any]) -> None:
    line = write_leaf(kind, {**content, "at": now().isoformat()})
    for project_id in sorted(project_ids):
        session.execute(_ADD, {"project_id": project_id, "kind": kind, "leaf": line})


def list_projects_of(session: Conn, volunteer_id: int) -> list[int]:
    """The projects that have runs of an account."""
    workers = select(Worker.id).where(Worker.volunteer_id == volunteer_id)
    return list(session.scalars(select(Run.project_id).where(Run.worker_id.in_(workers)).distinct()))


def append_pending(database: Database) -> None:
    """Give all entries their places, in transactions that are short, and sign the new roots."""
    while True:
        with database.read() as session:
            if not session.scalar(select(exists().select_from(_ENTRIES).where(IS_PENDING))):
                return
        with database.write() as session:
            lock_until_commit(session, AdvisoryLock.HISTORY)
            _append_batch(session)


def _append_batch(session: Session) -> None:
    pending = session.scalars(select(HistoryEntry).where(IS_PENDING).order_by(HistoryEntry.id).limit(ENTRIES_AT_ONCE))
    by_project = defaultdict[int, list[HistoryEntry]](list)
    for entry in pending:
        by_project[entry.project_id].append(entry)
    for project_id, results in by_project.items():
        entries = _add_papers(session, results)
        head = session.get(HistoryHead, project_id)
        tree = _open_tree(session, project_id, head.size if head else 0)
        if head is None:
            session.add(_begin(session, project_id, tree))
        lines = write_lines(session, entries)
        places = []
        for entry in entries:
            line = lines[entry.id]
            subtrees = tree.append(line.encode())
            places.append(
                {
                    "entry_id": entry.id,
                    "new_number": tree.size - 1,
                    "new_leaf": line,
                    "new_subtrees": b"".join(subtrees),
                }
            )
        session.flush()
        session.execute(_PLACE, places)
        _sign(session, project_id, head, tree, entries)


def _add_papers(session: Session, entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    """The entries, and after each result the paper that came with it: it costs the result's transaction nothing."""
    runs = [entry.subject_id for entry in entries if entry.kind == LeafKind.RESULT]
    is_paper = _ENTRIES.c.kind == LeafKind.PAPER, _ENTRIES.c.version == 1
    is_first = *is_paper, _ENTRIES.c.subject_id == Finding.id
    query = (
        select(func.min(Run.id), Finding.id, Finding.project_id)
        .join(Run, Run.experiment_id == Finding.experiment_id)
        .where(Run.id.in_(runs), ~exists().where(*is_first))
        .group_by(Finding.id)
    )
    papers = {
        run_id: HistoryEntry(project_id=project_id, kind=LeafKind.PAPER, subject_id=finding_id, version=1)
        for run_id, finding_id, project_id in session.execute(query)
    }
    session.add_all(papers.values())
    session.flush()
    found = ((entry, papers.get(entry.subject_id or 0) if entry.kind == LeafKind.RESULT else None) for entry in entries)
    return [one for pair in found for one in pair if one is not None]


def _begin(session: Session, project_id: int, tree: GrowingTree) -> HistoryEntry:
    """The first entry of a log, which names the project and the key."""
    project, key = session.get_one(Project, project_id), _list_keys(session)[-1]
    content = {
        "project": project.name, "root_sha": project.root_sha, "begun_at": now().isoformat(),
        "key": checkpoints.format_key(find_origin(session, project), key.public),
    }  # fmt: skip
    line = write_leaf(LeafKind.LOG, content)
    subtrees = b"".join(tree.append(line.encode()))
    return HistoryEntry(project_id=project_id, kind=LeafKind.LOG, number=0, leaf=line, subtrees=subtrees)


def _list_keys(session: Session) -> Sequence[HistoryKey]:
    """All keys, the oldest first; the first one is made when it is needed."""
    if not session.scalar(select(func.count()).select_from(HistoryKey)):
        _add_key(session)
    return session.scalars(select(HistoryKey).order_by(HistoryKey.id)).all()


def _add_key(session: Session) -> HistoryKey:
    secret = checkpoints.make_key()
    key = HistoryKey(secret=secret, public=checkpoints.public_of(secret), created_at=now())
    session.add(key)
    session.flush()
    return key


def rotate_key(session: Session) -> None:
    """Let a new key sign from now on. The checkpoints that first hold that are signed by both."""
    lock_until_commit(session, AdvisoryLock.HISTORY)
    before = _list_keys(session)[-1].secret
    assert before is not None, "a snapshot, which has no secret keys, takes no changes"
    key = _add_key(session)
    for head in session.scalars(select(HistoryHead)):
        origin = find_origin(session, session.get_one(Project, head.project_id))
        following = checkpoints.format_key(origin, key.public)
        content = {"key": following, "signed": checkpoints.endorse(following, before)}
        _enter_lines(session, [head.project_id], LeafKind.KEY, content)


def describe_key(session: Session, project: Project) -> str:
    """The verifier key of a project's log that signs now."""
    return checkpoints.format_key(find_origin(session, project), _list_keys(session)[-1].public)


def find_origin(session: Session, project: Project) -> str:
    """The name of a project's log, by the key that it began with. It stays the same wherever the coordinator is reached
    and whatever signs later."""
    if (head := session.get(HistoryHead, project.id)) is not None:
        return checkpoints.parse(head.note).origin
    return f"swarm/{project.name}/{checkpoints.fingerprint(_list_keys(session)[-1].public)}"


def sign_sums(session: Session, project: Project, sums: bytes) -> str:
    """The signature of a snapshot's checksums by the key that signs now."""
    secret = _list_keys(session)[-1].secret
    return checkpoints.sign(checkpoints.head_of_sums(find_origin(session, project), sums), [secret] if secret else [])


def has_pending(session: Session, project_id: int) -> bool:
    """Whether entries of a project have no place yet."""
    return bool(
        session.scalar(select(exists().select_from(_ENTRIES).where(IS_PENDING, _ENTRIES.c.project_id == project_id)))
    )


def _sign(
    session: Session, project_id: int, head: HistoryHead | None, tree: GrowingTree, new: Sequence[HistoryEntry]
) -> None:
    keys = _list_keys(session)
    signing = [*keys[-2:]] if any(entry.kind == LeafKind.KEY for entry in new) else [keys[-1]]
    checkpoint = Checkpoint(find_origin(session, session.get_one(Project, project_id)), tree.size, tree.root())
    note = checkpoints.sign(checkpoint, [key.secret for key in signing if key.secret is not None])
    if head is None:
        session.add(HistoryHead(project_id=project_id, size=tree.size, note=note, signed_at=now()))
    else:
        head.size, head.note, head.signed_at = tree.size, note, now()
    session.flush()


def _open_tree(session: Session, project_id: int, size: int) -> GrowingTree:
    edge = split(0, size)
    hashes = _load(session, project_id, edge)
    return GrowingTree(size, [hashes[one] for one in edge])


def _load(session: Session, project_id: int, subtrees: Sequence[Subtree]) -> dict[Subtree, bytes]:
    query = select(HistoryEntry.number, HistoryEntry.subtrees).where(
        HistoryEntry.project_id == project_id, HistoryEntry.number.in_([one.last for one in subtrees])
    )
    stored = {number: hashes or b"" for number, hashes in session.execute(query)}
    return {one: stored[one.last][one.level * HASH_BYTES :][:HASH_BYTES] for one in subtrees}


def get_head(session: Session, project: Project) -> HistoryHead:
    """Raises NotFoundError for a project without history yet."""
    return must_find(session.get(HistoryHead, project.id), f"{project.name} has no history yet.")


def get_entry_of_run(session: Session, project: Project, run_id: int) -> HistoryEntry:
    """The entry of a run. Raises NotFoundError, also for one that has no place yet."""
    is_of_run = HistoryEntry.kind == LeafKind.RESULT, HistoryEntry.subject_id == run_id
    entry = session.scalar(select(HistoryEntry).where(HistoryEntry.project_id == project.id, *is_of_run))
    if entry is None or entry.number is None:
        raise NotFoundError(f"The history of {project.name} has no run {run_id} (yet; a new one takes seconds).")
    return entry


def hash_ranges(session: Session, project_id: int, ranges: Sequence[Range]) -> list[str]:
    """The hashes of ranges of leaves, in hexadecimal."""
    parts = [split(*one) for one in ranges]
    hashes = _load(session, project_id, [one for part in parts for one in part])
    return [join([hashes[one] for one in part]).hex() for part in parts]


def stream_lines(database: Database, project_id: int, size: int) -> Iterator[bytes]:
    """The leaves of the tree of `size`, a line each, read in short transactions."""
    for start in range(0, size, ENTRIES_AT_ONCE):
        with database.read() as session:
            query = select(HistoryEntry.leaf).where(
                HistoryEntry.project_id == project_id,
                HistoryEntry.number.between(start, min(start + ENTRIES_AT_ONCE, size) - 1),
            )
            lines = session.scalars(query.order_by(HistoryEntry.number)).all()
        yield "".join(f"{line}\n" for line in lines).encode()
