"""Questions about workers."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.models import Worker


def find_worker(session: Session, volunteer_id: int, name: str) -> Worker | None:
    return session.scalar(select(Worker).where(Worker.volunteer_id == volunteer_id, Worker.name == name))


def get_worker(session: Session, worker_id: int) -> Worker:
    worker = session.get(Worker, worker_id)
    assert worker is not None, "a foreign key promised this worker"
    return worker
