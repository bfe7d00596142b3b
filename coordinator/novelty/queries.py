"""Questions about reserved and finished code, and about what it tries."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, bindparam, func, or_, select
from sqlalchemy.orm import Session

from coordinator.models import Lease, table_of
from coordinator.models.leases import LIVE_STATES
from coordinator.novelty.ideas import Idea
from coordinator.statements import Prepared
from shared.leases import LeaseState
from shared.protocol import now

_LEASES = table_of(Lease)
_IS_OTHER = _LEASES.c.project_id == bindparam("project_id"), _LEASES.c.id != bindparam("own_lease_id")
_IS_LIVE = _LEASES.c.state.in_(LIVE_STATES) & (_LEASES.c.expires_at > bindparam("moment"))
_RESERVATION = Prepared(
    select(_LEASES.c.id).where(*_IS_OTHER, _LEASES.c.proposed_tree_sha == bindparam("tree_sha"), _IS_LIVE).limit(1)
)
_SAME_CODE = Prepared(
    select(_LEASES.c.id, _LEASES.c.state)
    .where(
        *_IS_OTHER,
        _LEASES.c.proposed_fingerprint == bindparam("fingerprint"),
        or_(_LEASES.c.state == LeaseState.DONE, _IS_LIVE),
    )
    .order_by(_LEASES.c.issued_at)
    .limit(1)
)
_SAME_IDEA = Prepared(
    select(_LEASES.c.id)
    .where(
        *_IS_OTHER,
        or_(_LEASES.c.proposed_idea == bindparam("idea"), _LEASES.c.proposed_move == bindparam("move")),
        or_(_LEASES.c.state == LeaseState.DONE, _IS_LIVE),
    )
    .order_by(_LEASES.c.issued_at.desc())
    .limit(bindparam("limit"))
)
_BY_ID = Prepared(
    select(_LEASES.c.id, _LEASES.c.state == LeaseState.DONE, _LEASES.c.proposal).where(
        _LEASES.c.project_id == bindparam("project_id"),
        _LEASES.c.id.in_(bindparam("ids", expanding=True)),
        _LEASES.c.proposal.is_not(None),
        or_(_LEASES.c.state == LeaseState.DONE, _IS_LIVE),
    )
)
_LOCK = select(func.pg_advisory_xact_lock(bindparam("number", type_=BigInteger)))
"""PostgreSQL's advisory lock of this number, until the transaction ends."""


class ProposedLease(NamedTuple):
    """A lease with its proposal (a `shared.experiments.Proposal` as JSON): it has its result, or is under way."""

    id: UUID
    is_done: bool
    proposal: dict[str, Any]


def lock_names(session: Session, names: Sequence[str]) -> None:
    """Have transactions that ask about one of these names (in hexadecimal) do so in turn. SQLite has one writer."""
    if session.get_bind().dialect.name == "postgresql":
        for number in sorted({int(name[:15], 16) for name in names}):  # in one order, so that nobody waits in a circle
            session.execute(_LOCK, {"number": number})


def list_same_idea(session: Session, project_id: int, idea: Idea, own_lease_id: UUID, limit: int) -> list[UUID]:
    """Other leases that try the same idea, or did so with a result; the newest first."""
    given = {"project_id": project_id, "idea": idea.on_parent, "move": idea.move, "own_lease_id": own_lease_id}
    return [lease_id for (lease_id,) in _SAME_IDEA.all(session, given | {"limit": limit, "moment": now()})]


def list_leases(session: Session, project_id: int, ids: Sequence[UUID]) -> list[ProposedLease]:
    """Those of the leases that have their result, or are under way."""
    given = {"project_id": project_id, "ids": list(ids), "moment": now()}
    rows = _BY_ID.all(session, given)
    return [ProposedLease(lease_id, bool(is_done), proposal) for lease_id, is_done, proposal in rows]


def find_same_code(
    session: Session, project_id: int, fingerprint: str, own_lease_id: UUID
) -> tuple[UUID, LeaseState] | None:
    """The first other lease that ran this code, or is about to. One that ended without a result blocks nobody."""
    given = {
        "project_id": project_id, "fingerprint": fingerprint, "own_lease_id": own_lease_id, "moment": now(),
    }  # fmt: skip
    row = _SAME_CODE.first(session, given)
    return (row[0], LeaseState(row[1])) if row else None


def is_reserved(session: Session, project_id: int, tree_sha: str, own_lease_id: UUID) -> bool:
    """Whether another live lease is about to run these files. A reservation ends with its lease."""
    given = {"project_id": project_id, "tree_sha": tree_sha, "own_lease_id": own_lease_id, "moment": now()}
    return _RESERVATION.scalar(session, given) is not None
