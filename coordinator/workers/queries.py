"""Queries about workers and volunteers."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, bindparam, exists, func, insert, literal, select, tuple_, update

from coordinator.db.engine import Conn, LabelledRow
from coordinator.models import Calibration, Experiment, Lease, PastOffset, Project, Run, Volunteer, Worker, table_of
from coordinator.models.base import UtcDateTime, is_of_class
from coordinator.models.evidence import IS_FAILED
from shared.protocol import now
from shared.workers import Role, VolunteerView, WorkerState, WorkerView

RESTING = (WorkerState.PAUSED, WorkerState.WAITING)

_WORKERS, _RUNS, _EXPERIMENTS = table_of(Worker), table_of(Run), table_of(Experiment)
_VOLUNTEERS = table_of(Volunteer).alias()
_ADD = insert(_WORKERS).returning(_WORKERS.c.id)
_CHANGE = update(_WORKERS).where(_WORKERS.c.id == bindparam("worker_id"))
_VIEWS = select(
    Worker.id, Worker.name, Volunteer.name.label("volunteer"), Worker.agent, Worker.hardware_class,
    Worker.version, Worker.is_anchor, Worker.quarantine.is_not(None).label("is_quarantined"),
    Worker.pause.is_not(None).label("is_paused"),
    Worker.state, Worker.state_reason.label("reason"), Worker.state_at, Worker.last_seen_at,
).join(Volunteer, Worker.volunteer_id == Volunteer.id)  # fmt: skip


def _view(session: Conn, query: Select[*tuple[Any, ...]]) -> list[WorkerView]:
    return [WorkerView.model_validate(row, from_attributes=True) for row in session.execute(query)]


def find_view(session: Conn, worker_id: int) -> WorkerView | None:
    return next(iter(_view(session, _VIEWS.where(Worker.id == worker_id))), None)


def find_view_by_name(session: Conn, volunteer: str, worker: str) -> WorkerView | None:
    return next(iter(_view(session, _VIEWS.where(Volunteer.name == volunteer, Worker.name == worker))), None)


class WorkerFilters(NamedTuple):
    """The filters of a list of workers; None means no filter. `mark` is one of MARKS."""

    state: WorkerState | None = None
    hardware_class: str | None = None
    version: str | None = None
    volunteer: str | None = None
    mark: str | None = None
    project_id: int | None = None
    states: Sequence[WorkerState] = ()
    since: datetime | None = None
    until: datetime | None = None


def find_project_id(session: Conn, name: str) -> int | None:
    return session.scalar(select(Project.id).where(Project.name == name))


class Seen(NamedTuple):
    """A place in a list by last sign of life: that of the worker `id`."""

    at: datetime
    id: int


MARKS: dict[str, ColumnElement[bool]] = {
    "anchor": Worker.is_anchor.is_(True), "paused": Worker.pause.is_not(None),
    "quarantine": Worker.quarantine.is_not(None),
}  # fmt: skip


def _narrow(query: Select[*tuple[Any, ...]], filters: WorkerFilters) -> Select[*tuple[Any, ...]]:
    for column, value in (
        (Worker.state, filters.state), (Worker.hardware_class, filters.hardware_class),
        (Worker.version, filters.version), (Volunteer.name, filters.volunteer),
    ):  # fmt: skip
        query = query if value is None else query.where(column == value)
    if filters.states:
        query = query.where(Worker.state.in_(filters.states))
    if filters.since is not None:
        query = query.where(Worker.last_seen_at >= filters.since)
    if filters.until is not None:
        query = query.where(Worker.last_seen_at < filters.until)
    if filters.mark is not None:
        query = query.where(MARKS[filters.mark])
    if filters.project_id is not None:
        query = query.where(
            exists().where(
                is_of_class(Calibration, filters.project_id, Worker.hardware_class), Calibration.worker_id == Worker.id
            )
        )  # fmt: skip
    return query


def list_seen(
    session: Conn, filters: WorkerFilters, after: Seen | None, limit: int, *, ascending: bool = False
) -> list[WorkerView]:
    """Workers, the one that was heard of last first, or the other way round."""
    place = Worker.last_seen_at, Worker.id
    query = _narrow(_VIEWS, filters).order_by(*(one if ascending else one.desc() for one in place)).limit(limit)
    if after is not None:
        bound = tuple_(literal(after.at, UtcDateTime), after.id)
        query = query.where(tuple_(*place) > bound if ascending else tuple_(*place) < bound)
    return _view(session, query)


def list_newest(
    session: Conn, filters: WorkerFilters, after_id: int | None, limit: int, *, ascending: bool = False
) -> list[WorkerView]:
    """Workers, the newest first, or the other way round."""
    query = _narrow(_VIEWS, filters).order_by(Worker.id if ascending else Worker.id.desc()).limit(limit)
    if after_id is not None:
        query = query.where(Worker.id > after_id if ascending else Worker.id < after_id)
    return _view(session, query)


RECENT_FLEET = timedelta(days=1)
"""Age of a worker's last sign of life up to which it is counted in the fleet."""


def count_fleet(session: Conn, filters: WorkerFilters) -> Sequence[LabelledRow]:
    """Workers that were heard of within RECENT_FLEET, most first: `state`, `hardware_class`, `version` and their number
    `workers`."""
    columns = Worker.state, Worker.hardware_class, Worker.version
    query = select(*columns, func.count().label("workers")).join(Volunteer, Worker.volunteer_id == Volunteer.id)
    query = _narrow(query.where(Worker.last_seen_at >= now() - RECENT_FLEET), filters).group_by(*columns)
    return session.execute(query.order_by(func.count().desc(), *columns)).all()


class PastLease(NamedTuple):
    """A lease in a worker's history."""

    project: str
    kind: str
    state: str
    phase: str
    issued_at: datetime
    heartbeat_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    end_reason: str


def list_leases(session: Conn, worker_id: int, limit: int) -> list[PastLease]:
    """A worker's leases, the newest first."""
    columns = (getattr(Lease, name) for name in PastLease._fields[1:])
    query = select(Project.name, *columns).join(Project, Project.id == Lease.project_id)
    query = query.where(Lease.worker_id == worker_id).order_by(Lease.issued_at.desc()).limit(limit)
    return [PastLease(*row) for row in session.execute(query)]


def list_failures(session: Conn, worker_id: int, limit: int) -> Sequence[LabelledRow]:
    """A worker's failed runs, the newest first, each with the name of its `project`."""
    columns = (
        Run.id,
        Project.name.label("project"),
        Run.experiment_id,
        Run.outcome,
        Run.reason,
        Run.log_tail,
        Run.created_at,
    )
    query = select(*columns).join(Project, Project.id == Run.project_id).where(Run.worker_id == worker_id, IS_FAILED)
    return session.execute(query.order_by(Run.id.desc()).limit(limit)).all()


class OffsetPoint(NamedTuple):
    """A worker's offset in an epoch of a project's hardware class."""

    project: str
    hardware_class: str
    epoch: int
    mean: float
    sd: float
    started_at: datetime


def list_offsets(session: Conn, worker_id: int, limit: int) -> list[OffsetPoint]:
    """A worker's offsets, those of the newest epochs first."""
    columns = (getattr(PastOffset, name) for name in ("hardware_class", "epoch", "offset_mean", "offset_sd"))
    query = select(Project.name, *columns, PastOffset.started_at).join(Project, Project.id == PastOffset.project_id)
    query = query.where(PastOffset.worker_id == worker_id).order_by(PastOffset.started_at.desc(), Project.name)
    return [OffsetPoint(*row) for row in session.execute(query.limit(limit))]


def list_calibrations(session: Conn, worker_id: int, hardware_class: str) -> Sequence[LabelledRow]:
    """A worker's calibrations in its present hardware class, by `project`."""
    columns = Calibration.offset_mean, Calibration.offset_sd, Calibration.jobs_done, Calibration.failures_in_row
    query = select(Project.name.label("project"), *columns).join(Calibration, Calibration.project_id == Project.id)
    query = query.where(Calibration.worker_id == worker_id, Calibration.hardware_class == hardware_class)
    return session.execute(query.order_by(Project.name)).all()


def mark_shown(session: Conn, worker_id: int, number: int, moment: datetime) -> None:
    """Note when a worker's message of this number was shown, if it is the newest and was not."""
    waits = (_WORKERS.c.message_number == number) & _WORKERS.c.message.is_not(None)
    statement = update(_WORKERS).where(_WORKERS.c.id == worker_id, waits)
    session.execute(statement.values(message=None, message_shown_at=moment))


def find_duties(session: Conn, worker_id: int) -> LabelledRow:
    """The state of a worker by moderators: the reasons of its `quarantine` and `pause`, the `message` that waits,
    `message_shown_at` of the last one, and the `role` of its volunteer."""
    columns = Worker.quarantine, Worker.pause, Worker.message, Worker.message_shown_at
    query = select(*columns, Volunteer.role).join(Volunteer, Volunteer.id == Worker.volunteer_id)
    return session.execute(query.where(Worker.id == worker_id)).one()


MAX_COUNTED_RESTING = 1_000
"""Number of resting workers that are counted."""

RESTING_FOR = timedelta(days=1)
"""Workers whose last report is older are not listed as resting."""


def view_resting(session: Conn) -> list[WorkerView]:
    """Workers that lately reported that they rest, the latest MAX_COUNTED_RESTING first."""
    query = _VIEWS.where(Worker.state.in_(RESTING), Worker.last_seen_at >= now() - RESTING_FOR)
    return _view(session, query.order_by(Worker.state_at.desc()).limit(MAX_COUNTED_RESTING))


RECENT = timedelta(minutes=10)
"""Age of a worker's last sign of life up to which it counts as a machine of now."""


def count_recent(session: Conn) -> tuple[int, int]:
    """Workers that were heard of within RECENT, and their volunteers."""
    counts = select(func.count(), func.count(_WORKERS.c.volunteer_id.distinct()))
    workers, volunteers = session.execute(counts.where(_WORKERS.c.last_seen_at >= now() - RECENT)).one()
    return workers, volunteers


def add_worker(session: Conn, columns: Mapping[str, Any]) -> int:
    """Add a row; returns its id."""
    return int(session.scalar(_ADD, columns))


def change_worker(session: Conn, worker_id: int, columns: Mapping[str, Any]) -> None:
    session.execute(_CHANGE, {"worker_id": worker_id, **columns})


class VolunteerFilters(NamedTuple):
    """The filters of a list of volunteers; None means no filter."""

    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    role: Role | None = None
    hardware_class: str | None = None


def view_volunteers(
    session: Conn, filters: VolunteerFilters, after_id: int | None, limit: int, *, by_name: bool, ascending: bool
) -> list[VolunteerView]:
    """Volunteers and how much their workers did, those who joined last or are last by name first, or the other way
    round."""
    sources = {
        "workers": _WORKERS,
        "runs": _RUNS.join(_WORKERS, _RUNS.c.worker_id == _WORKERS.c.id),
        "experiments": _EXPERIMENTS.join(_WORKERS, _EXPERIMENTS.c.worker_id == _WORKERS.c.id),
    }
    own = select(func.count()).where(_WORKERS.c.volunteer_id == Volunteer.id).correlate(Volunteer)
    counts = [own.select_from(source).scalar_subquery().label(name) for name, source in sources.items()]
    query = select(Volunteer.id, Volunteer.name, Volunteer.role, *counts, Volunteer.created_at)
    key = Volunteer.name if by_name else Volunteer.id
    query = query.order_by(key if ascending else key.desc()).limit(limit)
    if filters.text:
        query = query.where(Volunteer.name.contains(filters.text.lower(), autoescape=True))
    if filters.since is not None:
        query = query.where(Volunteer.created_at >= filters.since)
    if filters.until is not None:
        query = query.where(Volunteer.created_at < filters.until)
    if filters.role is not None:
        query = query.where(Volunteer.role == filters.role)
    if filters.hardware_class is not None:
        own_class = exists().where(Worker.volunteer_id == Volunteer.id, Worker.hardware_class == filters.hardware_class)
        query = query.where(own_class)
    if after_id is not None:
        of_name = select(_VOLUNTEERS.c.name).where(_VOLUNTEERS.c.id == after_id).scalar_subquery()
        place = of_name if by_name else literal(after_id)
        query = query.where(key > place if ascending else key < place)
    return [VolunteerView.model_validate(row, from_attributes=True) for row in session.execute(query)]
