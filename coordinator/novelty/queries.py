"""Questions about reserved code."""

from uuid import UUID

from sqlalchemy import BigInteger, bindparam, func, or_, select
from sqlalchemy.orm import Session

from coordinator.models import Lease, table_of
from coordinator.models.leases import LIVE_STATES
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
_LOCK = select(func.pg_advisory_xact_lock(bindparam("number", type_=BigInteger)))
"""PostgreSQL's advisory lock of this number, until the transaction ends."""


def lock_code(session: Session, fingerprint: str) -> None:
    """Have two transactions that ask about the same code at once do so in turn. SQLite has one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_LOCK, {"number": int(fingerprint[:15], 16)})


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
