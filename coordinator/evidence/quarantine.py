"""Maintainers keep a worker or a volunteer out of the evidence, and let it in again.

Unverified runs stop counting at once; what several volunteers confirmed stands. Commits that lose all their runs lose
their posterior, and what was built upon them is suspect until others test it. The classes concerned begin a new epoch,
since offsets may rest on those runs too: it costs as much as the class is large, in one transaction, and is rare.
"""

from sqlalchemy.orm import Session

from coordinator.activity import service as activity
from coordinator.errors import NotFoundError
from coordinator.evidence import class_queries, recompute
from coordinator.models import Volunteer, Worker
from shared.events import EventKind


def set_quarantine(session: Session, volunteer: str, worker: str | None, reason: str | None, who: str) -> int:
    """Quarantine a volunteer or one of its workers with a reason, or lift it with None; returns how many runs changed.

    Raises NotFoundError.
    """
    target = _find(session, volunteer, worker)
    target.quarantine = reason
    session.flush()
    changed = class_queries.recount_runs(session, [target.id] if isinstance(target, Worker) else
                                         class_queries.list_workers(session, target.id))  # fmt: skip
    for project_id, hardware_class in changed:
        recompute.start_epoch(session, project_id, hardware_class)
    activity.record(
        session, EventKind.QUARANTINE_CHANGED, None, volunteer=volunteer, worker=worker, reason=reason, by=who,
        runs=sum(changed.values()),
    )  # fmt: skip
    return sum(changed.values())


def _find(session: Session, volunteer: str, worker: str | None) -> Worker | Volunteer:
    person = class_queries.find_volunteer(session, volunteer)
    if person is None:
        raise NotFoundError(f"There is no volunteer {volunteer!r}.")
    if worker is None:
        return person
    found = class_queries.find_worker_by_name(session, person.id, worker)
    if found is None:
        raise NotFoundError(f"{volunteer} has no worker {worker!r}.")
    return found
