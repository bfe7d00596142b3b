"""Registering workers: a worker is known from its first claim."""

from sqlalchemy.orm import Session

from coordinator.fleet import queries
from coordinator.fleet.queries import find_worker as find_worker
from coordinator.fleet.queries import get_worker as get_worker
from coordinator.models import Worker
from shared.hardware import Hardware
from shared.protocol import now


def register_worker(session: Session, volunteer_id: int, name: str, agent: str, hardware: Hardware) -> Worker:
    """The volunteer's worker of that name, made or brought up to date."""
    worker = queries.find_worker(session, volunteer_id, name)
    if worker is None:
        worker = Worker(volunteer_id=volunteer_id, name=name, created_at=now())
        session.add(worker)
    worker.agent = agent
    worker.hardware = hardware.model_dump(mode="json")
    worker.hardware_class = hardware.hardware_class
    worker.last_seen_at = now()
    session.flush()
    return worker
