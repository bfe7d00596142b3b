"""Questions about promotions: their leases and runs, a class's time, and the classes in which a commit was measured."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import and_, bindparam, case, func, insert, or_, select
from sqlalchemy.orm import Session, aliased

from coordinator.db.engine import Conn, objects_of
from coordinator.evidence.promotion import PromotionRun
from coordinator.models import (
    Calibration,
    CommitPosterior,
    Experiment,
    Lease,
    Promotion,
    PromotionLease,
    Run,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.models.base import is_of_class
from coordinator.models.leases import IS_LIVE
from shared.protocol import now
from shared.records import Trust
from shared.runs import RunOutcome

MAX_PROMOTIONS = 200
"""Number of a class's newest promotions that are read."""

_PROMOTIONS, _GIVEN, _LEASES, _RUNS = map(table_of, (Promotion, PromotionLease, Lease, Run))
_WORKERS, _VOLUNTEERS, _CALIBRATIONS = map(table_of, (Worker, Volunteer, Calibration))
_OF_CLASS = (
    _PROMOTIONS.c.project_id == bindparam("project_id"), _PROMOTIONS.c.hardware_class == bindparam("hardware_class"),
)  # fmt: skip
_COUNTS = and_(
    _RUNS.c.outcome == RunOutcome.OK,
    _RUNS.c.counts,
    _WORKERS.c.quarantine.is_(None),
    _VOLUNTEERS.c.quarantine.is_(None),
)
_PROMOTION_RUNS = (
    select(
        _GIVEN.c.promotion_id,
        _LEASES.c.base_sha,
        _LEASES.c.worker_id,
        _WORKERS.c.volunteer_id,
        *(_LEASES.c[name] for name in ("seed", "pace", "issued_at")),
        IS_LIVE,
        case((_COUNTS, _RUNS.c.metric)),
        func.coalesce(_RUNS.c.trust, Trust.NEWCOMER.value),
    )
    .join(_LEASES, _LEASES.c.id == _GIVEN.c.lease_id)
    .join(_WORKERS, _WORKERS.c.id == _LEASES.c.worker_id)
    .join(_VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id)
    # By the worker an index finds the run; its lease names it only at the end of the result's transaction.
    .outerjoin(_RUNS, and_(_RUNS.c.worker_id == _LEASES.c.worker_id, _RUNS.c.lease_id == _LEASES.c.id))
    .where(_GIVEN.c.promotion_id.in_(bindparam("ids", expanding=True)))
    .order_by(_LEASES.c.issued_at, _LEASES.c.id)
)
_OPEN = select(_PROMOTIONS.c.id).where(*_OF_CLASS, _PROMOTIONS.c.closed_at.is_(None))
_JOBS = select(func.sum(_CALIBRATIONS.c.jobs_done)).where(is_of_class(_CALIBRATIONS.c))
_LEASES_GIVEN = (
    select(_PROMOTIONS.c.rung, func.count())
    .join(_GIVEN, _GIVEN.c.promotion_id == _PROMOTIONS.c.id)
    .where(*_OF_CLASS)
    .group_by(_PROMOTIONS.c.rung)
)
_ADD_LEASE = insert(_GIVEN)


def list_open(session: Conn, project_id: int, hardware_class: str) -> list[int]:
    """The promotions of a class that are not closed."""
    return list(session.scalars(_OPEN, {"project_id": project_id, "hardware_class": hardware_class}))


def list_promotions(session: Conn, project_id: int, hardware_class: str, sha: str | None = None) -> Sequence[Promotion]:
    """The newest promotions of a class, the oldest first; of a commit, or beside it, if one is named."""
    query = select(Promotion).where(is_of_class(Promotion, project_id, hardware_class))
    if sha is not None:
        query = query.where(or_(Promotion.commit_sha == sha, Promotion.base_sha == sha))
    with objects_of(session) as objects:
        return objects.scalars(query.order_by(Promotion.id.desc()).limit(MAX_PROMOTIONS)).all()[::-1]


def list_of_commits(session: Session, shas: Sequence[str]) -> Sequence[Promotion]:
    """The promotions of commits in all classes."""
    query = select(Promotion).where(Promotion.commit_sha.in_(shas))
    return session.scalars(query.order_by(Promotion.id.desc()).limit(MAX_PROMOTIONS)).all()


def map_runs(session: Conn, ids: Sequence[int]) -> dict[int, list[PromotionRun]]:
    """The leases of promotions with their runs, oldest first, by promotion. Runs of whoever is in quarantine have no
    metric."""
    found: dict[int, list[PromotionRun]] = {id_: [] for id_ in ids}
    for row in session.execute(_PROMOTION_RUNS, {"ids": list(ids), "moment": now()}).all():
        run = PromotionRun._make(row)
        found[run.promotion_id].append(run._replace(trust=Trust(run.trust)))
    return found


def count_time(session: Conn, project_id: int, hardware_class: str) -> tuple[int, dict[str, int]]:
    """The jobs that a class did, and the leases that it gave on each rung."""
    given = {"project_id": project_id, "hardware_class": hardware_class}
    return session.scalar(_JOBS, given) or 0, dict(session.execute(_LEASES_GIVEN, given).all())


def map_experiments(session: Conn, shas: Sequence[str]) -> dict[str, int]:
    """The numbers of the experiments that made these commits; none made the seed."""
    query = select(Experiment.commit_sha, Experiment.id).where(Experiment.commit_sha.in_(shas))
    return dict(session.execute(query).all())


def add_lease(session: Conn, promotion_id: int, lease_id: UUID) -> None:
    session.execute(_ADD_LEASE, {"promotion_id": promotion_id, "lease_id": lease_id})


def list_measured_together(session: Session, sha: str, base_sha: str) -> list[tuple[CommitPosterior, CommitPosterior]]:
    """The posteriors of two commits in each class in which both were measured."""
    other = aliased(CommitPosterior)
    query = (
        select(CommitPosterior, other)
        .join(other, other.hardware_class == CommitPosterior.hardware_class)
        .where(CommitPosterior.commit_sha == sha, other.commit_sha == base_sha)
        .order_by(CommitPosterior.hardware_class)
    )
    return [(own, base) for own, base in session.execute(query)]
