"""Questions about workers."""

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from coordinator.models import Worker

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
