"""Queries about workers and volunteers."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from coordinator.models import Experiment, Run, Volunteer, Worker, table_of
from shared.workers import VolunteerView, WorkerState, WorkerView

RESTING = (WorkerState.PAUSED, WorkerState.WAITING)


_WORKERS, _RUNS, _EXPERIMENTS = table_of(Worker), table_of(Run), table_of(Experiment)
_ADD = insert(_WORKERS).returning(_WORKERS.c.id)
_CHANGE = update(_WORKERS).where(_WORKERS.c.id == bindparam("worker_id"))


_VIEWS = select(
    Worker.id, Worker.name, Volunteer.name.label("volunteer"), Worker.agent, Worker.hardware_class,
    Worker.state, Worker.state_reason.label("reason"), Worker.state_at, Worker.last_seen_at,
).join(Volunteer, Worker.volunteer_id == Volunteer.id)  # fmt: skip


def _view(session: Session, query: Select[*tuple[Any, ...]]) -> list[WorkerView]:
    return [WorkerView.model_validate(row, from_attributes=True) for row in session.execute(query)]


def view_worker(session: Session, worker_id: int) -> WorkerView:
    return _view(session, _VIEWS.where(Worker.id == worker_id))[0]


def view_workers(
    session: Session, before_id: int | None, limit: int, states: Sequence[WorkerState] | None = None,
    volunteer_id: int | None = None,
) -> list[WorkerView]:  # fmt: skip
    """Workers, newest first; of some states or of a volunteer only, if any are given."""
    query = _VIEWS.order_by(Worker.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(Worker.id < before_id)
    if volunteer_id is not None:
        query = query.where(Worker.volunteer_id == volunteer_id)
    return _view(session, query.where(Worker.state.in_(states)) if states else query)


def view_resting(session: Session, since: datetime, limit: int) -> list[WorkerView]:
    """Workers that have reported since then that they rest, the latest first."""
    query = _VIEWS.where(Worker.state.in_(RESTING), Worker.last_seen_at >= since)
    return _view(session, query.order_by(Worker.state_at.desc()).limit(limit))


def count_recent(session: Session, since: datetime) -> tuple[int, int]:
    """Workers that were heard of since then, and their volunteers."""
    counts = select(func.count(), func.count(_WORKERS.c.volunteer_id.distinct()))
    workers, volunteers = session.execute(counts.where(_WORKERS.c.last_seen_at >= since)).one()
    return workers, volunteers


def add_worker(session: Session, columns: Mapping[str, Any]) -> int:
    """Add a row; returns its id."""
    return int(session.scalar(_ADD, columns))


def change_worker(session: Session, worker_id: int, columns: Mapping[str, Any]) -> None:
    session.execute(_CHANGE, {"worker_id": worker_id, **columns})


def view_volunteers(session: Session, before_id: int | None, limit: int) -> list[VolunteerView]:
    """Volunteers and how much their workers did, newest first."""
    sources = {
        "workers": _WORKERS,
        "runs": _RUNS.join(_WORKERS, _RUNS.c.worker_id == _WORKERS.c.id),
        "experiments": _EXPERIMENTS.join(_WORKERS, _EXPERIMENTS.c.worker_id == _WORKERS.c.id),
    }
    own = select(func.count()).where(_WORKERS.c.volunteer_id == Volunteer.id).correlate(Volunteer)
    counts = [own.select_from(source).scalar_subquery().label(name) for name, source in sources.items()]
    query = select(Volunteer.id, Volunteer.name, Volunteer.role, *counts, Volunteer.created_at)
    if before_id is not None:
        query = query.where(Volunteer.id < before_id)
    rows = session.execute(query.order_by(Volunteer.id.desc()).limit(limit))
    return [VolunteerView.model_validate(row, from_attributes=True) for row in rows]
