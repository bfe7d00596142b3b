"""Questions about reserved and finished code, and about what it tries."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, delete, func, insert, or_, select, union_all, update

from coordinator.db.engine import Conn, LabelledRow
from coordinator.models import DeferredText, Embedding, Lease, table_of
from coordinator.models.leases import IS_LIVE, LIVE_STATES
from coordinator.novelty.ideas import Idea
from shared.leases import LeaseState
from shared.protocol import now

_LEASES = table_of(Lease)
_HOLDERS = (  # of all states, unsorted: else SQLite goes through all leases of the project that are done, or all
    select(
        _LEASES.c.id,
        _LEASES.c.state,
        _LEASES.c.expires_at > bindparam("moment"),
        _LEASES.c.proposed_tree_sha == bindparam("tree_sha"),
        _LEASES.c.issued_at,
    ).where(
        _LEASES.c.project_id == bindparam("project_id"),
        _LEASES.c.id != bindparam("own_lease_id"),
        _LEASES.c.proposed_fingerprint == bindparam("fingerprint"),
    )
)
_OF_IDEA = union_all(
    *(
        select(_LEASES.c.id).where(_LEASES.c.project_id == bindparam("project_id"), named)
        for named in (_LEASES.c.proposed_idea == bindparam("idea"), _LEASES.c.proposed_move == bindparam("move"))
    )
)
_SAME_IDEA = (
    select(_LEASES.c.id)
    .where(  # not of the project, which `_OF_IDEA` says: SQLite would look at all of its leases
        _LEASES.c.id != bindparam("own_lease_id"),
        _LEASES.c.id.in_(_OF_IDEA),
        or_(_LEASES.c.state == LeaseState.DONE, IS_LIVE),
    )
    .order_by(_LEASES.c.issued_at.desc())
    .limit(bindparam("limit"))
)
_BY_ID = select(_LEASES.c.id, _LEASES.c.state == LeaseState.DONE, _LEASES.c.proposal).where(
    _LEASES.c.id.in_(bindparam("ids", expanding=True)),
    _LEASES.c.proposal.is_not(None),
    or_(_LEASES.c.state == LeaseState.DONE, IS_LIVE),
)


class ProposedLease(NamedTuple):
    """A lease with its proposal (a `shared.experiments.Proposal` as JSON): it has its result, or is under way."""

    id: UUID
    is_done: bool
    proposal: dict[str, Any]


class CodeHolder(NamedTuple):
    """A lease that holds code, and whether in exactly the files in question."""

    id: UUID
    state: LeaseState
    is_in_time: bool
    has_files: bool

    @property
    def is_done(self) -> bool:
        return self.state == LeaseState.DONE

    @property
    def is_live(self) -> bool:
        return self.is_in_time and not self.is_done


def list_same_idea(session: Conn, project_id: int, idea: Idea, own_lease_id: UUID, limit: int) -> list[UUID]:
    """Other leases that try the same idea, or did so with a result; the newest first."""
    given = {"project_id": project_id, "idea": idea.on_parent, "move": idea.move, "own_lease_id": own_lease_id}
    return [lease_id for (lease_id,) in session.execute(_SAME_IDEA, given | {"limit": limit, "moment": now()}).all()]


def list_leases(session: Conn, ids: Sequence[UUID]) -> list[ProposedLease]:
    """Those of the leases that have their result, or are under way."""
    rows = session.execute(_BY_ID, {"ids": list(ids), "moment": now()}).all()
    return [ProposedLease(lease_id, bool(is_done), proposal) for lease_id, is_done, proposal in rows]


def list_holders(
    session: Conn, project_id: int, tree_sha: str, fingerprint: str, own_lease_id: UUID
) -> list[CodeHolder]:
    """Other leases that ran this code or are to run it, the first issued first. The same files are the same code.

    One that ended without a result is none of them; one whose time is up is, as long as nobody wrote that down.
    """
    given = {
        "project_id": project_id, "tree_sha": tree_sha, "fingerprint": fingerprint, "own_lease_id": own_lease_id,
        "moment": now(),
    }  # fmt: skip
    rows = sorted(session.execute(_HOLDERS, given).all(), key=lambda row: row[-1])
    holders = [CodeHolder(lease_id, LeaseState(state), *flags) for lease_id, state, *flags, _ in rows]
    return [holder for holder in holders if holder.is_done or holder.state in LIVE_STATES]


ROWS_AT_ONCE = 2_000

_EMBEDDINGS, _DEFERRED = table_of(Embedding), table_of(DeferredText)


class EmbeddingRow(NamedTuple):
    """A stored vector, and what it belongs to: a `subject` (a kind of text) and its `key` there."""

    id: int
    project_id: int
    subject: str
    key: str
    vector: bytes


_AFTER = (
    select(*(_EMBEDDINGS.c[name] for name in EmbeddingRow._fields))
    .where(_EMBEDDINGS.c.model == bindparam("model"), _EMBEDDINGS.c.id > bindparam("last_id"))
    .order_by(_EMBEDDINGS.c.id)
    .limit(ROWS_AT_ONCE)
)
_BEFORE = "-before"
"""Suffix of the subject of vectors that were set aside."""

_ADD = insert(_EMBEDDINGS).returning(_EMBEDDINGS.c.id)


def list_after(session: Conn, model: str, last_id: int) -> Iterator[EmbeddingRow]:
    """The rows of a model with a higher number, in their order."""
    while rows := session.execute(_AFTER, {"model": model, "last_id": last_id}).all():
        for row in rows:
            yield EmbeddingRow._make(row)
        last_id = rows[-1][0]


def has_any(session: Conn) -> bool:
    """Whether a vector is stored, of whatever model."""
    return session.scalar(select(_EMBEDDINGS.c.id).limit(1)) is not None


def add_embedding(session: Conn, project_id: int, subject: str, key: str, model: str, vector: bytes) -> EmbeddingRow:
    """Store a vector."""
    given = {"project_id": project_id, "subject": subject, "key": key, "model": model, "vector": vector}
    return EmbeddingRow(int(session.scalar(_ADD, given)), project_id, subject, key, vector)


def set_aside(session: Conn, subject: str, key: str) -> list[EmbeddingRow]:
    """Leave a text without a vector; returns the rows as they were.

    They stay, under a subject that nobody looks for, so that their numbers, by which indexes know new rows, stay taken.
    """
    of_it = _EMBEDDINGS.c.subject == subject, _EMBEDDINGS.c.key == key
    rows = session.execute(select(*(_EMBEDDINGS.c[name] for name in EmbeddingRow._fields)).where(*of_it)).all()
    for row in rows:
        renamed = {"subject": subject + _BEFORE, "key": str(row.id)}
        session.execute(update(_EMBEDDINGS).where(_EMBEDDINGS.c.id == row.id).values(renamed))
    return [EmbeddingRow._make(row) for row in rows]


def add_deferred(session: Conn, project_id: int, subject: str, key: str, parts: Sequence[str]) -> None:
    row = {"project_id": project_id, "subject": subject, "key": key, "parts": list(parts)}
    session.execute(insert(_DEFERRED), row)


def list_deferred(session: Conn, after_id: int, limit: int) -> Sequence[LabelledRow]:
    """Texts that wait for a vector, the longest waiting first, with the columns of `DeferredText`."""
    return session.execute(
        select(_DEFERRED).where(_DEFERRED.c.id > after_id).order_by(_DEFERRED.c.id).limit(limit)
    ).all()


def remove_deferred(session: Conn, row_id: int) -> bool:
    """Whether the text still waited."""
    removed = delete(_DEFERRED).where(_DEFERRED.c.id == row_id).returning(_DEFERRED.c.id)
    return session.scalar(removed) is not None


def count_deferred(session: Conn, subject: str, limit: int) -> int:
    """The number of a kind's texts that wait for a vector, at most `limit`."""
    some = select(_DEFERRED.c.id).where(_DEFERRED.c.subject == subject).limit(limit).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0
