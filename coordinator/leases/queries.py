"""Questions about leases."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.models import Branch, Lease, Worker
from shared.protocol import now

LeaseRow = tuple[Lease, Worker, str]
"""A lease, its worker, and its branch's name."""


def lock_lease(session: Session, lease_id: UUID) -> Lease | None:
    """The lease, with its row locked until the transaction ends (SQLite locks the whole database instead)."""
    return session.scalar(select(Lease).where(Lease.id == lease_id).with_for_update())


def find_lease(session: Session, lease_id: UUID) -> Lease | None:
    return session.get(Lease, lease_id)


def list_live_leases_of_worker(session: Session, worker_id: int) -> Sequence[Lease]:
    return session.scalars(select(Lease).where(Lease.worker_id == worker_id, Lease.is_live_at(now()))).all()


def list_live_leases(session: Session, project_id: int, limit: int) -> list[LeaseRow]:
    """Who works on what now, the oldest job first."""
    query = (
        select(Lease, Worker, Branch.name)
        .join(Worker, Worker.id == Lease.worker_id)
        .join(Branch, Branch.id == Lease.branch_id)
        .where(Lease.project_id == project_id, Lease.is_live_at(now()))
        .order_by(Lease.issued_at)
        .limit(limit)
    )
    return [(lease, worker, branch) for lease, worker, branch in session.execute(query)]


def count_live_leases_by_project(session: Session) -> dict[int, int]:
    rows = session.execute(
        select(Lease.project_id, func.count()).where(Lease.is_live_at(now())).group_by(Lease.project_id)
    )
    return dict(rows.all())
