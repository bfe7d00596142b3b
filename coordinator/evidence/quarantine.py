"""Maintainers keep a worker or a volunteer out of the evidence, let it in again, and name anchors.

Unverified runs stop counting at once; what several volunteers confirmed stands. Commits that lose all their runs lose
their posterior, and what was built upon them is suspect until others test it. The classes concerned begin a new epoch,
since offsets may rest on those runs too: it costs as much as the class is large, in one transaction, and is rare.
"""

from sqlalchemy.orm import Session

from coordinator.events import service as activity
from coordinator.evidence import quarantine_queries as queries
from coordinator.evidence import recompute
from coordinator.http.errors import NotFoundError
from coordinator.models import Volunteer, Worker
from shared.events import EventKind


def set_quarantine(session: Session, volunteer: str, worker: str | None, reason: str | None, who: str) -> int:
    """Quarantine a volunteer or one of its workers with a reason, or lift it with None; returns how many runs changed.

    Raises NotFoundError.
    """
    person = _find_volunteer(session, volunteer)
    target = person if worker is None else _find_worker(session, person, worker)
    target.quarantine = reason
    session.flush()
    workers = [target.id] if isinstance(target, Worker) else queries.list_workers(session, target.id)
    changed = queries.recount_runs(session, workers)
    for project_id, hardware_class in changed:
        recompute.end_epoch(session, project_id, hardware_class, always=True)
    activity.record(
        session, EventKind.QUARANTINE_CHANGED, None, volunteer=volunteer, worker=worker, reason=reason, by=who,
        runs=sum(changed.values()),
    )  # fmt: skip
    return sum(changed.values())


def set_anchor(session: Session, volunteer: str, worker: str, *, is_anchor: bool, who: str) -> None:
    """Make a worker an anchor, or no longer one. What it measured before stays what it was. Raises NotFoundError."""
    _find_worker(session, _find_volunteer(session, volunteer), worker).is_anchor = is_anchor
    session.flush()
    activity.record(
        session, EventKind.ANCHOR_CHANGED, None, volunteer=volunteer, worker=worker, is_anchor=is_anchor, by=who
    )


def _find_volunteer(session: Session, name: str) -> Volunteer:
    volunteer = queries.find_volunteer(session, name)
    if volunteer is None:
        raise NotFoundError(f"There is no volunteer {name!r}.")
    return volunteer


def _find_worker(session: Session, volunteer: Volunteer, name: str) -> Worker:
    worker = queries.find_worker_by_name(session, volunteer.id, name)
    if worker is None:
        raise NotFoundError(f"{volunteer.name} has no worker {name!r}.")
    return worker
