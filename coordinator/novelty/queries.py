"""Questions about reserved code."""

from uuid import UUID

from sqlalchemy import bindparam, select
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


def is_reserved(session: Session, project_id: int, tree_sha: str, own_lease_id: UUID) -> bool:
    """Whether another live lease is about to run these files. A reservation ends with its lease."""
    given = {"project_id": project_id, "tree_sha": tree_sha, "own_lease_id": own_lease_id, "moment": now()}
    return session.scalar(_RESERVATION, given) is not None
