"""Rows that selection reads: the frontier, jobs in flight, a worker's history, and the job mix."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    CompoundSelect,
    Integer,
    Select,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    null,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.orm import Session

from coordinator import models
from coordinator.db.engine import Conn
from coordinator.experiments.failures import is_commits_own
from coordinator.models import KindShare, table_of
from coordinator.models.base import is_of_class, is_of_commit, is_one_of
from coordinator.models.experiments import IS_MEASUREMENT
from coordinator.models.leases import IS_LIVE
from coordinator.selection import step_queries
from coordinator.selection.parents import Candidate
from coordinator.selection.step_queries import HARDWARE_CLASS, PROJECT, SHAS
from shared.experiments import Assignment, Dispute, JobKind, Standing
from shared.leases import LeaseState
from shared.protocol import now
from shared.records import Trust
from shared.runs import RunOutcome


class KindTally(NamedTuple):
    """Cost and gain of a kind's experiments. `gain` is in the metric's unit, positive for better."""

    experiments: int = 0
    gpu_seconds: float = 0.0
    gain: float = 0.0


CONFIRMED = (Standing.VERIFIED, Standing.CORROBORATED, Standing.SINGLE_OWNER)
"""Standings of commits that need no more runs, but for an anchor's of a corroborated one."""

FRONTIER_ROWS = 256  # best commits from which parents are drawn; later ones would hardly ever be drawn

MAX_FAILURES_READ = 32  # of one commit

LOST_TRIES, LOST_WITHIN = 2, timedelta(days=1)
"""Leases for one commit that a volunteer may let come to nothing within this time, before others measure it."""

MOST_CLASSES = 8
"""Number of other hardware classes whose leaders a claim looks at: anybody can invent one more."""

UNUSABLE = frozenset({Standing.HELD, Standing.REPORTED, Standing.REJECTED})
"""Standings of commits that are no parents: a maintainer must decide first or rejected it, or the code is lost."""


class JobsUnderWay(NamedTuple):
    """Live leases that start from one commit, are of one kind, and belong to one branch."""

    base_sha: str
    kind: str
    branch_id: int
    jobs: int


class WorkerHistory(NamedTuple):
    """A worker's jobs in a project and class. `quarantine` is a maintainer's reason for giving it none; `parent_sha` is
    the commit that its last experiment started from."""

    jobs_done: int
    seed_measured: int
    seed_failed: int
    failures_in_row: int
    parent_sha: str | None
    last_run_at: datetime | None
    quarantine: str | None
    is_anchor: bool
    is_calibrated: bool = False


_COMMITS, _POSTERIORS, _RUNS, _LEASES = map(table_of, (models.Commit, models.CommitPosterior, models.Run, models.Lease))
_EXPERIMENTS, _SHARES, _BRANCHES, _EPOCHS = map(
    table_of, (models.Experiment, KindShare, models.Branch, models.EvidenceEpoch)
)
_WORKERS, _VOLUNTEERS, _CALIBRATIONS = map(table_of, (models.Worker, models.Volunteer, models.Calibration))


def count_experiments(session: Conn, project_id: int) -> int:
    return session.scalar(select(func.count()).where(_EXPERIMENTS.c.project_id == project_id)) or 0


def list_shares(session: Session, project_id: int) -> Sequence[KindShare]:
    query = select(KindShare).where(KindShare.project_id == project_id).order_by(KindShare.share.desc(), KindShare.kind)
    return session.scalars(query.execution_options(populate_existing=True)).all()


def map_costs(session: Conn, project_id: int) -> dict[JobKind, tuple[int, float]]:
    """The number of runs that made experiments, and their total seconds, by kind."""
    query = (
        select(_RUNS.c.kind, func.count(), func.sum(_RUNS.c.total_seconds))
        .where(_RUNS.c.project_id == project_id)
        .group_by(_RUNS.c.kind)
    )
    rows = [(JobKind(kind), count, seconds) for kind, count, seconds in session.execute(query)]
    return {kind: (count, seconds or 0.0) for kind, count, seconds in rows if kind.makes_experiment}


def list_confirmed(session: Conn, project_id: int) -> list[tuple[JobKind, float]]:
    """The experiments that verified commits are built upon, each with its kind and the effect that is known best."""
    line = (
        select(_POSTERIORS.c.commit_sha.label("sha"))
        .where(_POSTERIORS.c.project_id == project_id, _POSTERIORS.c.standing.in_(CONFIRMED))
        .cte("line", recursive=True)
    )
    line = line.union(select(_COMMITS.c.parent_sha).join(line, _COMMITS.c.sha == line.c.sha))
    ids = set(session.scalars(select(_EXPERIMENTS.c.id).join(line, line.c.sha == _EXPERIMENTS.c.commit_sha)))
    while new := step_queries.find_adopted_by(session, sorted(ids)) - ids:
        ids |= new
    return step_queries.list_most_certain_effects(session, sorted(ids))


def replace_shares(
    session: Conn, project_id: int, shares: Mapping[JobKind, float], tallies: Mapping[JobKind, KindTally],
    moment: datetime,
) -> None:  # fmt: skip
    through = session.scalar(select(func.max(_RUNS.c.id)).where(_RUNS.c.project_id == project_id)) or 0
    session.execute(delete(_SHARES).where(_SHARES.c.project_id == project_id))
    session.execute(
        insert(_SHARES),
        [
            {"project_id": project_id, "kind": kind, "share": share, "through_run_id": through, "updated_at": moment}
            | tallies.get(kind, KindTally())._asdict()
            for kind, share in shares.items()
        ],
    )


def _measured_commits() -> Select[*tuple[Any, ...]]:
    """Those of a class; the root, which no experiment made, belongs to the project's first branch."""
    first = select(func.min(_BRANCHES.c.id)).where(_BRANCHES.c.project_id == PROJECT)
    return (
        select(
            *(_POSTERIORS.c[name] for name in ("commit_sha", "rank_score", "metric_sd", "runs", "standing", "dispute"))
        )
        .add_columns(func.coalesce(_EXPERIMENTS.c.branch_id, first.scalar_subquery()).label("branch_id"))
        .outerjoin(_EXPERIMENTS, _EXPERIMENTS.c.commit_sha == _POSTERIORS.c.commit_sha)
        .where(_POSTERIORS.c.hardware_class == HARDWARE_CLASS)
    )


def _select_frontier() -> CompoundSelect[*tuple[Any, ...]]:
    """Each standing is asked for by itself, because then an index gives the order; else every row would be sorted."""
    standings = [standing for standing in Standing if standing not in UNUSABLE]
    parts = [step_queries.take_best(_measured_commits(), standing, FRONTIER_ROWS).subquery() for standing in standings]
    return union_all(*(select(*part.c) for part in parts))


_FRONTIER = _select_frontier()
_CANDIDATES = (
    # The project is compared afterwards: with it in the query, SQLite would go through all of the class.
    _measured_commits()
    .add_columns(_POSTERIORS.c.project_id)
    .where(_POSTERIORS.c.commit_sha.in_(SHAS), ~is_one_of(_POSTERIORS.c.standing, sorted(UNUSABLE)))
)
_IN_FLIGHT = (
    select(_LEASES.c.base_sha, _LEASES.c.kind, _LEASES.c.branch_id, func.count())
    .where(_LEASES.c.project_id == PROJECT, IS_LIVE)
    .group_by(_LEASES.c.base_sha, _LEASES.c.kind, _LEASES.c.branch_id)
)
_COUNTED = ("jobs_done", "seed_measured", "seed_failed", "failures_in_row", "parent_sha")
_HISTORY = (
    select(*(_CALIBRATIONS.c[name] for name in _COUNTED))
    .add_columns(_CALIBRATIONS.c.updated_at, _WORKERS.c.quarantine, _VOLUNTEERS.c.quarantine, _WORKERS.c.is_anchor)
    .add_columns(_CALIBRATIONS.c.offset_mean.is_not(None))
    .select_from(_WORKERS.join(_VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id))
    .outerjoin(_CALIBRATIONS, and_(_CALIBRATIONS.c.worker_id == _WORKERS.c.id, is_of_class(_CALIBRATIONS.c)))
    .where(_WORKERS.c.id == bindparam("worker_id"))
)
_SEED_MEASURED = select(_CALIBRATIONS.c.worker_id, _CALIBRATIONS.c.volunteer_id).where(
    is_of_class(_CALIBRATIONS.c), _CALIBRATIONS.c.seed_measured > 0
)
_SEED_VOLUNTEERS = _SEED_MEASURED.with_only_columns(cast(null(), Integer), _CALIBRATIONS.c.volunteer_id).distinct()
_MEASURED_SEED = union_all(
    select(*_SEED_MEASURED.limit(bindparam("workers")).subquery().c),
    select(*_SEED_VOLUNTEERS.limit(bindparam("volunteers")).subquery().c),
)
_MEASURE_SEED = (
    select(_LEASES.c.worker_id, _WORKERS.c.volunteer_id)
    .join(_WORKERS, _WORKERS.c.id == _LEASES.c.worker_id)
    .where(is_of_class(_LEASES.c), _LEASES.c.base_sha == bindparam("root_sha"))
    .where(_LEASES.c.kind == JobKind.REPLICATE, IS_LIVE)
)
_HELD = (
    # The project is compared afterwards: with it as a condition, SQLite would go through all of its live leases.
    select(func.count().filter(_LEASES.c.project_id == PROJECT))
    .join_from(_WORKERS, _LEASES, _LEASES.c.worker_id == _WORKERS.c.id)
    .where(_WORKERS.c.volunteer_id == bindparam("volunteer_id"), IS_LIVE)
)
_VOLUNTEERS_AT_WORK = (
    select(func.count(_WORKERS.c.volunteer_id.distinct()))
    .join_from(_WORKERS, _LEASES, _LEASES.c.worker_id == _WORKERS.c.id)
    .where(_LEASES.c.project_id == PROJECT, IS_LIVE)
)
_OTHER_VOLUNTEER = (
    select(_CALIBRATIONS.c.worker_id)
    .where(is_of_class(_CALIBRATIONS.c), _CALIBRATIONS.c.volunteer_id != bindparam("volunteer_id"))
    .limit(1)
)
_MAKERS = [kind for kind in JobKind if kind.makes_experiment]
_MEASURED_BY = (
    select(_RUNS.c.commit_sha)
    .join(_WORKERS, _WORKERS.c.id == _RUNS.c.worker_id)
    # Of the volunteer's number as it stands SQLite, which keeps no statistics, would go through all of its runs.
    .where(_RUNS.c.commit_sha.in_(SHAS), _WORKERS.c.volunteer_id + 0 == bindparam("volunteer_id"))
    .where(_RUNS.c.rung.is_(None))
    .where(
        (_RUNS.c.hardware_class == HARDWARE_CLASS) | is_one_of(_RUNS.c.kind, [k for k in JobKind if k.makes_experiment])
    )
    .union_all(
        select(_LEASES.c.base_sha)
        .join(_WORKERS, _WORKERS.c.id == _LEASES.c.worker_id)
        .where(_WORKERS.c.volunteer_id == bindparam("volunteer_id"), _LEASES.c.base_sha.in_(SHAS))
        .where(_LEASES.c.hardware_class == HARDWARE_CLASS)
        .where(_LEASES.c.issued_at > bindparam("since"), _LEASES.c.state != LeaseState.DONE)
        .where(is_one_of(_LEASES.c.kind, (JobKind.REPLICATE, JobKind.CONTROL)))
        .group_by(_LEASES.c.base_sha)
        .having((func.count().filter(IS_LIVE) > 0) | (func.count() >= LOST_TRIES))
    )
)
_IS_MEASURING = select(_LEASES.c.id).where(
    _LEASES.c.worker_id == bindparam("worker_id"), _LEASES.c.base_sha == bindparam("sha"), IS_LIVE,
    ~is_one_of(_LEASES.c.kind, _MAKERS),
)  # fmt: skip
_CHECKS = (
    select(_RUNS.c.commit_sha, func.max(case((_RUNS.c.trust == Trust.ANCHOR, 1), else_=0)))
    .where(_RUNS.c.commit_sha.in_(SHAS), _RUNS.c.hardware_class == HARDWARE_CLASS, _RUNS.c.is_check, IS_MEASUREMENT)
    .group_by(_RUNS.c.commit_sha)
)
_KIND_SHARES = select(_SHARES.c.kind, _SHARES.c.share).where(_SHARES.c.project_id == PROJECT)
_RECORD_PARENT = update(_CALIBRATIONS).where(
    is_of_class(_CALIBRATIONS.c, bindparam("of_project"), bindparam("of_class")),
    _CALIBRATIONS.c.worker_id == bindparam("of_worker"),
)
_FAILED_BY_ITSELF = (
    select(_RUNS.c.hardware_class, _RUNS.c.outcome, _RUNS.c.reason, _RUNS.c.frame, _RUNS.c.log_tail)
    .where(
        _RUNS.c.commit_sha == bindparam("sha"),
        _RUNS.c.rung.is_(None),
        or_(_RUNS.c.frame != "", _RUNS.c.outcome.in_((RunOutcome.TIMEOUT, RunOutcome.INVALID))),
    )
    .order_by(_RUNS.c.id)
    .limit(MAX_FAILURES_READ)
)
_CLASSES = (
    select(_EPOCHS.c.hardware_class)
    .where(_EPOCHS.c.project_id == PROJECT, _EPOCHS.c.hardware_class != HARDWARE_CLASS)
    .order_by(_EPOCHS.c.runs.desc(), _EPOCHS.c.hardware_class)
    .limit(MOST_CLASSES)
)
_SCORE = select(_POSTERIORS.c.rank_score).where(is_of_commit(_POSTERIORS.c))
_PROMISES = select(_LEASES.c.base_sha, _LEASES.c.assignment).where(
    is_of_class(_LEASES.c), _LEASES.c.kind == JobKind.ADOPT, IS_LIVE
)


def order_frontier(candidate: Candidate) -> tuple[float, str]:
    """The sort key of the frontier."""
    return candidate.mean, candidate.sha


def list_frontier(session: Conn, project_id: int, hardware_class: str) -> list[Candidate]:
    """The best measured commits, the best first, at most `FRONTIER_ROWS`."""
    rows = session.execute(_FRONTIER, {"project_id": project_id, "hardware_class": hardware_class}).all()
    return sorted(map(_make_candidate, rows), key=order_frontier)[:FRONTIER_ROWS]


def list_candidates(session: Conn, project_id: int, hardware_class: str, shas: Sequence[str]) -> list[Candidate]:
    """Those of the commits that may stand on the frontier, in any order."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "shas": list(shas)}
    rows = session.execute(_CANDIDATES, given).all()
    return [_make_candidate(row) for *row, of_project in rows if of_project == project_id]


def _make_candidate(row: Sequence[Any]) -> Candidate:
    sha, rank_score, sd, runs, standing, dispute, branch_id = row
    return Candidate(
        sha,
        rank_score,
        sd,
        runs,
        0,
        standing in CONFIRMED,
        standing == Standing.SUSPECT,
        branch_id=branch_id,
        is_corroborated=standing == Standing.CORROBORATED,
        is_disputed=dispute != Dispute.NONE,
    )


def count_in_flight(session: Conn, project_id: int) -> list[JobsUnderWay]:
    """Live leases by the commit they start from, kind and branch."""
    return list(map(JobsUnderWay._make, session.execute(_IN_FLIGHT, {"project_id": project_id, "moment": now()}).all()))


def count_held(session: Conn, project_id: int, volunteer_id: int) -> int:
    """The live leases of a volunteer's workers."""
    return session.scalar(_HELD, {"project_id": project_id, "volunteer_id": volunteer_id, "moment": now()}) or 0


def count_volunteers_at_work(session: Conn, project_id: int) -> int:
    """Volunteers whose workers hold a live lease."""
    return session.scalar(_VOLUNTEERS_AT_WORK, {"project_id": project_id, "moment": now()}) or 0


def map_shares(session: Conn, project_id: int) -> dict[JobKind, float]:
    """The shares of the kinds of experiment; empty while those of the contract hold."""
    return {JobKind(kind): share for kind, share in session.execute(_KIND_SHARES, {"project_id": project_id}).all()}


def record_parent(session: Conn, project_id: int, hardware_class: str, worker_id: int, sha: str) -> None:
    """Remember the commit that a worker's experiment starts from."""
    given = {"of_project": project_id, "of_class": hardware_class, "of_worker": worker_id, "parent_sha": sha}
    session.execute(_RECORD_PARENT, given)


def find_history(session: Conn, project_id: int, hardware_class: str, worker_id: int) -> WorkerHistory:
    """How the worker's jobs in the class went."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "worker_id": worker_id}
    row = session.execute(_HISTORY, given).first()
    assert row is not None, "the worker is known"
    done, measured, failed, in_row = (count or 0 for count in row[:4])
    return WorkerHistory(
        done, measured, failed, in_row, row[4], last_run_at=row[5], quarantine=row[6] or row[7], is_anchor=row[8],
        is_calibrated=row[9],
    )  # fmt: skip


def find_seed_workers(
    session: Conn, project_id: int, hardware_class: str, root_sha: str, workers: int, volunteers: int
) -> tuple[int, set[int]]:
    """How many workers of a class measured the seed or do so now, and their volunteers; from so many `workers` and
    `volunteers` on not all are found."""
    given = {"project_id": project_id, "hardware_class": hardware_class}
    rows = session.execute(_MEASURED_SEED, given | {"workers": workers, "volunteers": volunteers}).all()
    found, owners = {worker_id for worker_id, _ in rows if worker_id}, {volunteer_id for _, volunteer_id in rows}
    if len(found) < workers or len(owners) < volunteers:
        for worker_id, volunteer_id in session.execute(_MEASURE_SEED, given | {"root_sha": root_sha, "moment": now()}):
            found.add(worker_id)
            owners.add(volunteer_id)
    return len(found), owners


def has_other_volunteer(session: Conn, project_id: int, hardware_class: str, volunteer_id: int) -> bool:
    """Whether anybody else works in the class."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "volunteer_id": volunteer_id}
    return session.scalar(_OTHER_VOLUNTEER, given) is not None


def count_measured_by(session: Conn, volunteer_id: int, hardware_class: str, shas: Sequence[str]) -> Counter[str]:
    """How often a volunteer measured each of the commits in a class, or is measuring it; or made it, on whatever
    hardware. One for which it let LOST_TRIES leases come to nothing counts, too, so that nobody holds a commit up."""
    given = {"volunteer_id": volunteer_id, "hardware_class": hardware_class, "shas": list(shas), "moment": now()}
    return Counter(session.scalars(_MEASURED_BY, given | {"since": now() - LOST_WITHIN}))


def is_measuring(session: Conn, worker_id: int, sha: str) -> bool:
    """Whether a worker holds a job that measures a commit."""
    return session.scalar(_IS_MEASURING, {"worker_id": worker_id, "sha": sha, "moment": now()}) is not None


def map_checks(session: Conn, hardware_class: str, shas: Sequence[str]) -> dict[str, bool]:
    """Those of the commits that were checked in a class; whether an anchor was among the checkers."""
    given = {"hardware_class": hardware_class, "shas": list(shas)}
    return {sha: bool(anchored) for sha, anchored in session.execute(_CHECKS, given).all()}


def has_crashed_by_itself(session: Conn, sha: str, hardware_class: str) -> bool:
    """Whether a run of a commit failed in the commit's own code, as another one in that hardware class would."""
    failed = session.execute(_FAILED_BY_ITSELF, {"sha": sha}).all()
    return any(is_commits_own(run, run.hardware_class == hardware_class) for run in failed)


def list_other_classes(session: Conn, project_id: int, hardware_class: str) -> list[str]:
    """The other classes of a project, at most MOST_CLASSES: those with the most runs when their epochs began."""
    return list(session.scalars(_CLASSES, {"project_id": project_id, "hardware_class": hardware_class}))


def find_score(session: Conn, sha: str, hardware_class: str) -> float | None:
    """A commit's `rank_score` in a class, where it was measured."""
    return session.scalar(_SCORE, {"sha": sha, "hardware_class": hardware_class})


def list_promises(session: Conn, project_id: int, hardware_class: str) -> list[tuple[str, float | None]]:
    """The adoptions under way in a class: the commit each starts from, and the effect that is expected."""
    rows = session.execute(
        _PROMISES, {"project_id": project_id, "hardware_class": hardware_class, "moment": now()}
    ).all()
    return [(sha, Assignment.model_validate(asked or {}).predicted_effect) for sha, asked in rows]
