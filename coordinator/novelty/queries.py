"""Questions about reserved code."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.models import Lease
from shared.protocol import now


def find_reservation(session: Session, project_id: int, tree_sha: str, own_lease_id: UUID) -> Lease | None:
    """Another live lease that is about to run these files. A reservation ends with its lease."""
    return session.scalar(
        select(Lease)
        .where(
            Lease.project_id == project_id,
            Lease.proposed_tree_sha == tree_sha,
            Lease.id != own_lease_id,
            Lease.is_live_at(now()),
        )
        .limit(1)
    )
