"""Maintainers keep a worker or a volunteer out of the evidence, let it in again, and name anchors.

Unverified runs stop counting at once. Commits that lose all their runs lose their posterior, and their descendants are
suspect until others test them; of many runs these follow soon after, in the background. So does a new epoch of the
classes concerned, since offsets may rest on those runs too.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, exists, select, update
from sqlalchemy.orm import Session

from coordinator.events import history
from coordinator.events import service as events
from coordinator.evidence import decisions, epochs
from coordinator.http.errors import must_find
from coordinator.models import CommitPosterior, Lease, Project, Run, Volunteer, Worker, table_of
from coordinator.models.experiments import IS_POSTERIOR_OF_RUN
from coordinator.projects import service as projects
from shared.events import EventKind
from shared.experiments import Standing

_RUNS, _POSTERIORS, _WORKERS = table_of(Run), table_of(CommitPosterior), table_of(Worker)
_VOLUNTEERS, _LEASES = table_of(Volunteer), table_of(Lease)


def set_quarantine(session: Session, volunteer: str, worker: str | None, reason: str | None, who: str) -> int:
    """Quarantine a volunteer or one of their workers with a reason, or lift it with None; returns the number of changed
    runs. Raises NotFoundError."""
    person = _get_volunteer(session, volunteer)
    target = person if worker is None else _get_worker(session, person, worker)
    target.quarantine = reason
    session.flush()
    is_target = Worker.id == target.id if worker else Worker.volunteer_id == target.id
    workers = session.scalars(select(Worker.id).where(is_target)).all()
    _await_results(session, _LEASES.c.worker_id.in_(workers))
    changed = _recount_runs(session, workers)
    for (project_id, hardware_class), shas in changed.items():
        decisions.follow(session, project_id, hardware_class, shas, ends_epoch=True)
    runs = sum(map(len, changed.values()))
    where = history.list_projects_of(session, person.id)
    what = {"volunteer": volunteer, "worker": worker, "in_quarantine": reason is not None}
    history.enter_decision(session, where, **what)
    events.record(
        session, EventKind.QUARANTINE_CHANGED, None, volunteer=volunteer, worker=worker, reason=reason, by=who,
        runs=runs,
    )  # fmt: skip
    return runs


def set_anchor(session: Session, volunteer: str, worker: str, *, is_anchor: bool, who: str) -> None:
    """Make a worker an anchor, or no longer one. What it measured before stays what it was. Raises NotFoundError."""
    person = _get_volunteer(session, volunteer)
    _get_worker(session, person, worker).is_anchor = is_anchor
    session.flush()
    where = history.list_projects_of(session, person.id)
    history.enter_decision(session, where, volunteer=volunteer, worker=worker, is_anchor=is_anchor)
    events.record(
        session, EventKind.ANCHOR_CHANGED, None, volunteer=volunteer, worker=worker, is_anchor=is_anchor, by=who
    )


def _get_volunteer(session: Session, name: str) -> Volunteer:
    volunteer = session.scalar(select(Volunteer).where(Volunteer.name == name))
    return must_find(volunteer, f"There is no volunteer {name!r}.")


def _get_worker(session: Session, volunteer: Volunteer, name: str) -> Worker:
    worker = session.scalar(select(Worker).where(Worker.volunteer_id == volunteer.id, Worker.name == name))
    return must_find(worker, f"{volunteer.name} has no worker {name!r}.")


def _await_results(session: Session, is_theirs: ColumnElement[bool]) -> None:
    """Wait for results that are being stored now, and keep later ones waiting: they do not see yet that they do not
    count. Leases that have no result yet are locked for that, and then the classes that they are for."""
    is_open = is_theirs, _LEASES.c.result_key.is_(None)
    session.execute(select(_LEASES.c.id).where(*is_open).order_by(_LEASES.c.id).with_for_update(key_share=True))
    classes = select(_LEASES.c.project_id, _LEASES.c.hardware_class).where(is_theirs).distinct()
    for project_id, hardware_class in session.execute(classes.order_by(*classes.selected_columns)).all():
        contract = projects.contract_of(session.get_one(Project, project_id))
        epochs.begin_run(session, contract, project_id, hardware_class)


def _recount_runs(session: Session, worker_ids: Sequence[int]) -> dict[tuple[int, str], list[str]]:
    """Let runs of workers count or not, as quarantines say; returns the commits of changed ones by project and class.
    Runs of a commit that is verified in their class keep counting: others confirmed them."""
    changed: dict[tuple[int, str], list[str]] = {}
    for worker_id in worker_ids:
        own, volunteers = session.execute(
            select(_WORKERS.c.quarantine, _VOLUNTEERS.c.quarantine)
            .join(_VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id)
            .where(_WORKERS.c.id == worker_id)
        ).one()
        is_free = own is None and volunteers is None
        query = update(_RUNS).where(_RUNS.c.worker_id == worker_id, _RUNS.c.counts.is_(not is_free))
        if not is_free:
            query = query.where(~exists().where(IS_POSTERIOR_OF_RUN, _POSTERIORS.c.standing == Standing.VERIFIED))
        found = query.values(counts=is_free).returning(_RUNS.c.project_id, _RUNS.c.hardware_class, _RUNS.c.commit_sha)
        for project_id, hardware_class, sha in session.execute(found):
            changed.setdefault((project_id, hardware_class), []).append(sha)
    return changed
