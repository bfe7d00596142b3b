"""Questions about workers."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from coordinator.models import Volunteer, Worker
from shared.fleet import WorkerState

RESTING = (WorkerState.PAUSED, WorkerState.WAITING)

_FIND = select(Worker).where(Worker.volunteer_id == bindparam("volunteer_id"), Worker.name == bindparam("name"))
_LOCK = _FIND.with_for_update()


def find_worker(session: Session, volunteer_id: int, name: str) -> Worker | None:
    return session.scalar(_FIND, {"volunteer_id": volunteer_id, "name": name})


def lock_worker(session: Session, volunteer_id: int, name: str) -> Worker | None:
    """The worker, with its row locked until the transaction ends: its claims come one after the other."""
    return session.scalar(_LOCK, {"volunteer_id": volunteer_id, "name": name})


def get_worker(session: Session, worker_id: int) -> Worker:
    worker = session.get(Worker, worker_id)
    assert worker is not None, "a foreign key promised this worker"
    return worker


def get_volunteer_name(session: Session, volunteer_id: int) -> str:
    return session.scalars(select(Volunteer.name).where(Volunteer.id == volunteer_id)).one()


def list_workers(
    session: Session, before_id: int | None, limit: int, states: Sequence[WorkerState] | None
) -> list[tuple[Worker, str]]:
    """Workers with their volunteers' names, newest first."""
    query = select(Worker, Volunteer.name).join(Volunteer, Worker.volunteer_id == Volunteer.id)
    if before_id is not None:
        query = query.where(Worker.id < before_id)
    if states:
        query = query.where(Worker.state.in_(states))
    return [(worker, name) for worker, name in session.execute(query.order_by(Worker.id.desc()).limit(limit))]


def list_resting(session: Session, since: datetime, limit: int) -> list[tuple[Worker, str]]:
    """Workers that said since then that they rest, with their volunteers' names, the latest first."""
    query = select(Worker, Volunteer.name).join(Volunteer, Worker.volunteer_id == Volunteer.id)
    query = query.where(Worker.state.in_(RESTING), Worker.last_seen_at >= since)
    return [(worker, name) for worker, name in session.execute(query.order_by(Worker.state_at.desc()).limit(limit))]
