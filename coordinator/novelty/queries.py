"""Questions about reserved code."""

from uuid import UUID

from sqlalchemy import BigInteger, bindparam, func, select
from sqlalchemy.orm import Session

from coordinator.models import Lease, table_of
from coordinator.models.leases import LIVE_STATES
from shared.protocol import now

_LEASES = table_of(Lease)
_RESERVATION = (
    select(_LEASES.c.id)
    .where(
        _LEASES.c.project_id == bindparam("project_id"),
        _LEASES.c.proposed_tree_sha == bindparam("tree_sha"),
        _LEASES.c.id != bindparam("own_lease_id"),
        _LEASES.c.state.in_(LIVE_STATES),
        _LEASES.c.expires_at > bindparam("moment"),
    )
    .limit(1)
)
_LOCK = select(func.pg_advisory_xact_lock(bindparam("number", type_=BigInteger)))
"""PostgreSQL's advisory lock of this number, until the transaction ends."""


def lock_code(session: Session, tree_sha: str) -> None:
    """Have two transactions that ask about the same files at once do so in turn. SQLite has one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_LOCK, {"number": int(tree_sha[:15], 16)})


def is_reserved(session: Session, project_id: int, tree_sha: str, own_lease_id: UUID) -> bool:
    """Whether another live lease is about to run these files. A reservation ends with its lease."""
    given = {"project_id": project_id, "tree_sha": tree_sha, "own_lease_id": own_lease_id, "moment": now()}
    return session.scalar(_RESERVATION, given) is not None
