"""Registering workers: a worker is known from its first claim."""

from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from coordinator.http.errors import NotFoundError
from coordinator.http.pagination import cut_page
from coordinator.models import Worker
from coordinator.workers import queries
from coordinator.workers.queries import WorkerRow as WorkerRow
from coordinator.workers.queries import find_worker as find_worker
from shared.protocol import Page, now
from shared.runs import Hardware
from shared.workers import VolunteerView, WorkerNotice, WorkerState, WorkerView

SEEN_AGAIN = timedelta(seconds=60)
"""`last_seen_at` is written at most so often."""

RESTING_FOR = timedelta(days=1)
"""A worker that has said nothing for longer is no news."""


def register_worker(session: Session, volunteer_id: int, name: str, agent: str, hardware: Hardware) -> WorkerRow:
    """The volunteer's worker of that name, made or brought up to date, and locked."""
    known = queries.lock_worker(session, volunteer_id, name)
    moment = now()
    described: dict[str, Any] = {
        "agent": agent,
        "hardware": hardware.model_dump(mode="json"),
        "hardware_class": hardware.hardware_class,
        "state": WorkerState.WORKING,
        "last_seen_at": moment,
    }
    began = {"state_reason": "", "state_at": moment}
    if known is None:
        key: dict[str, Any] = {"volunteer_id": volunteer_id, "name": name}
        worker_id = queries.add_worker(session, key | described | began | {"is_anchor": False, "created_at": moment})
        return WorkerRow(id=worker_id, **key, **described)
    is_same = (known.agent, known.hardware, known.state) == (agent, described["hardware"], WorkerState.WORKING)
    if not is_same or abs(moment - known.last_seen_at) >= SEEN_AGAIN:
        is_back = known.state != WorkerState.WORKING
        queries.change_worker(session, known.id, described | (began if is_back else {}))
    return known._replace(**described)


def take_notice(session: Session, volunteer_id: int, notice: WorkerNotice) -> WorkerView:
    """Note what a worker is about to do. Raises NotFoundError for one that never had a job."""
    known = queries.lock_worker(session, volunteer_id, notice.worker)
    if known is None:
        raise NotFoundError("A worker is known from its first job.")
    worker, moment = queries.get_worker(session, known.id), now()
    if worker.state != notice.state:
        worker.state_at = moment
    worker.state, worker.state_reason, worker.last_seen_at = notice.state, notice.reason, moment
    session.flush()
    return _view(worker, queries.get_volunteer_name(session, volunteer_id))


def view_page(
    session: Session, before_id: int | None, limit: int, states: list[WorkerState] | None
) -> Page[WorkerView]:
    """Workers, newest first; of some states only, if any are given."""
    rows = queries.list_workers(session, before_id, limit + 1, states)
    return cut_page([_view(worker, volunteer) for worker, volunteer in rows], limit, lambda view: view.id)


def view_resting(session: Session, limit: int) -> list[WorkerView]:
    """Workers that lately said why they do nothing, the latest first."""
    since = now() - RESTING_FOR
    return [_view(worker, volunteer) for worker, volunteer in queries.list_resting(session, since, limit)]


def view_volunteers(session: Session, before_id: int | None, limit: int) -> Page[VolunteerView]:
    """Volunteers, newest first."""
    rows = queries.list_volunteers(session, before_id, limit + 1)
    return cut_page([VolunteerView(**row._asdict()) for row in rows], limit, lambda view: view.id)


def _view(worker: Worker, volunteer: str) -> WorkerView:
    return WorkerView(
        id=worker.id,
        name=worker.name,
        volunteer=volunteer,
        agent=worker.agent,
        hardware_class=worker.hardware_class,
        state=WorkerState(worker.state),
        reason=worker.state_reason,
        state_at=worker.state_at,
        last_seen_at=worker.last_seen_at,
    )
