"""Questions that quarantines and anchors ask: who is meant, and which of their runs count."""

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from coordinator.models import CommitPosterior, Run, Volunteer, Worker, table_of
from shared.experiments import Standing

_RUNS, _POSTERIORS, _WORKERS = table_of(Run), table_of(CommitPosterior), table_of(Worker)
_VOLUNTEERS = table_of(Volunteer)


def find_volunteer(session: Session, name: str) -> Volunteer | None:
    return session.scalar(select(Volunteer).where(Volunteer.name == name))


def find_worker_by_name(session: Session, volunteer_id: int, name: str) -> Worker | None:
    return session.scalar(select(Worker).where(Worker.volunteer_id == volunteer_id, Worker.name == name))


def list_workers(session: Session, volunteer_id: int) -> list[int]:
    return list(session.scalars(select(Worker.id).where(Worker.volunteer_id == volunteer_id)))


def recount_runs(session: Session, worker_ids: Sequence[int]) -> dict[tuple[int, str], int]:
    """Let runs of workers count or not, as quarantines say; returns how many changed, by project and class.

    Runs of a commit that is verified in their class keep counting: others confirmed them.
    """
    changed: dict[tuple[int, str], int] = {}
    for worker_id in worker_ids:
        own, volunteers = session.execute(
            select(_WORKERS.c.quarantine, _VOLUNTEERS.c.quarantine)
            .join(_VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id)
            .where(_WORKERS.c.id == worker_id)
        ).one()
        is_free = own is None and volunteers is None
        query = select(_RUNS.c.id, _RUNS.c.project_id, _RUNS.c.hardware_class).where(
            _RUNS.c.worker_id == worker_id, _RUNS.c.counts.is_(not is_free)
        )
        if not is_free:
            verified = select(_POSTERIORS.c.commit_sha).where(
                _POSTERIORS.c.commit_sha == _RUNS.c.commit_sha,
                _POSTERIORS.c.hardware_class == _RUNS.c.hardware_class,
                _POSTERIORS.c.standing == Standing.VERIFIED,
            )
            query = query.where(~verified.exists())
        for run_id, project_id, hardware_class in session.execute(query).all():
            session.execute(update(_RUNS).where(_RUNS.c.id == run_id).values(counts=is_free))
            key = (project_id, hardware_class)
            changed[key] = changed.get(key, 0) + 1
    return changed
