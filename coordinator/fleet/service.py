"""Registering workers: a worker is known from its first claim."""

from datetime import timedelta

from sqlalchemy.orm import Session

from coordinator.fleet import queries
from coordinator.fleet.queries import find_worker as find_worker
from coordinator.fleet.queries import get_worker as get_worker
from coordinator.models import Worker
from shared.hardware import Hardware
from shared.protocol import now

SEEN_AGAIN = timedelta(seconds=60)
"""`last_seen_at` is written at most so often."""


def register_worker(session: Session, volunteer_id: int, name: str, agent: str, hardware: Hardware) -> Worker:
    """The volunteer's worker of that name, made or brought up to date, and locked."""
    worker = queries.lock_worker(session, volunteer_id, name)
    moment = now()
    described = hardware.model_dump(mode="json")
    if worker is None:
        worker = Worker(volunteer_id=volunteer_id, name=name, created_at=moment, last_seen_at=moment)
        session.add(worker)
    elif (worker.agent, worker.hardware) == (agent, described) and abs(moment - worker.last_seen_at) < SEEN_AGAIN:
        return worker
    worker.agent = agent
    worker.hardware = described
    worker.hardware_class = hardware.hardware_class
    worker.last_seen_at = moment
    session.flush()
    return worker
