"""Questions about workers."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from coordinator.db.statements import Prepared
from coordinator.models import Experiment, Run, Volunteer, Worker, table_of
from shared.workers import WorkerState

RESTING = (WorkerState.PAUSED, WorkerState.WAITING)


class WorkerRow(NamedTuple):
    """A worker, as `Worker` stores it."""

    id: int
    volunteer_id: int
    name: str
    agent: str
    hardware: dict[str, Any]
    hardware_class: str
    state: str
    last_seen_at: datetime


_WORKERS = table_of(Worker)
_ROWS = select(*(_WORKERS.c[name] for name in WorkerRow._fields)).where(
    _WORKERS.c.volunteer_id == bindparam("volunteer_id"), _WORKERS.c.name == bindparam("name")
)
_FIND = Prepared(_ROWS)
_LOCK = Prepared(_ROWS.with_for_update())
_ADD = Prepared(insert(_WORKERS).returning(_WORKERS.c.id))
_CHANGE = Prepared(update(_WORKERS).where(_WORKERS.c.id == bindparam("worker_id")))


def find_worker(session: Session, volunteer_id: int, name: str) -> WorkerRow | None:
    row = _FIND.first(session, {"volunteer_id": volunteer_id, "name": name})
    return WorkerRow._make(row) if row else None


def lock_worker(session: Session, volunteer_id: int, name: str) -> WorkerRow | None:
    """The worker, with its row locked until the transaction ends: its claims come one after the other."""
    row = _LOCK.first(session, {"volunteer_id": volunteer_id, "name": name})
    return WorkerRow._make(row) if row else None


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


def add_worker(session: Session, columns: Mapping[str, Any]) -> int:
    """Add a row; returns its id."""
    return int(_ADD.scalar(session, columns))


def change_worker(session: Session, worker_id: int, columns: Mapping[str, Any]) -> None:
    _CHANGE.run(session, {"worker_id": worker_id, **columns})


class VolunteerRow(NamedTuple):
    """A volunteer, and how much its workers did."""

    id: int
    name: str
    role: str
    workers: int
    runs: int
    experiments: int
    created_at: datetime


def list_volunteers(session: Session, before_id: int | None, limit: int) -> list[VolunteerRow]:
    """Volunteers, newest first."""
    own = _WORKERS.c.volunteer_id == Volunteer.id
    counted = [
        select(func.count()).select_from(_WORKERS).where(own),
        *(
            select(func.count()).select_from(table.join(_WORKERS, table.c.worker_id == _WORKERS.c.id)).where(own)
            for table in (table_of(Run), table_of(Experiment))
        ),
    ]
    counts = [query.correlate(Volunteer).scalar_subquery() for query in counted]
    query = select(Volunteer.id, Volunteer.name, Volunteer.role, *counts, Volunteer.created_at)
    if before_id is not None:
        query = query.where(Volunteer.id < before_id)
    return [VolunteerRow(*row) for row in session.execute(query.order_by(Volunteer.id.desc()).limit(limit))]
