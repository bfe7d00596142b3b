"""Runs as pages and other features read them: rows, curves, pace, and what stopping hopeless ones saves."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from statistics import median
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from sqlalchemy import Row, bindparam, case, func, select
from sqlalchemy.orm import Session, undefer_group

from coordinator.db.cache import CachePerDatabase
from coordinator.db.engine import Conn
from coordinator.models import (
    WORKER_NAME,
    ClassProgress,
    CommitPosterior,
    EvidenceEpoch,
    Project,
    Run,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.models.base import is_of_commit, is_of_same_class
from coordinator.models.evidence import REPORT
from coordinator.projects import service as projects
from shared.experiments import JobKind
from shared.records import HardwareClassCount
from shared.runs import CurvePoint, EarlyStops, RunOutcome

_POINTS = TypeAdapter(list[CurvePoint])
"""Checks many points together, which takes less than making each by itself."""

RunRow = Row[Run, str]
"""A run and its worker's name."""

CURVE_POINTS = 50
"""Of a parent's curve in a lease: one for each 2 % of the budget, 3 kB in all."""

RECENT_CURVES = 512
"""Number of curves kept in memory: 10 MB."""

NEWEST_RUNS = 1000

_RECENT = CachePerDatabase[tuple[str, str], list[CurvePoint]](RECENT_CURVES)
"""By commit and hardware class. The first whole run stays the first, and does not change."""

_RUNS, _POSTERIORS = table_of(Run), table_of(CommitPosterior)
_FIRST_WHOLE = (
    select(_RUNS.c.id, _RUNS.c.pace)
    .where(is_of_commit(_RUNS.c))
    .where(_RUNS.c.outcome == RunOutcome.OK, _RUNS.c.rung.is_(None))
    .order_by(_RUNS.c.id)
    .limit(1)
)
_CURVE = select(_RUNS.c.curve).where(_RUNS.c.id == bindparam("run_id"))
_NEWEST = (
    select(
        *(_RUNS.c[name] for name in ("commit_sha", "hardware_class", "outcome", "hopeless_at")),
        *(_RUNS.c[f"{name}_seconds"] for name in ("training", "budget", "total")),
    )
    .where(_RUNS.c.project_id == bindparam("project_id"))
    .order_by(_RUNS.c.id.desc())
    .limit(NEWEST_RUNS)
    .subquery()
)
_IS_STOPPED = _NEWEST.c.outcome == RunOutcome.STOPPED_EARLY
_IS_SAMPLED = (_NEWEST.c.outcome == RunOutcome.OK) & _NEWEST.c.hopeless_at.is_not(None)
_IS_WRONG = _IS_SAMPLED & (_POSTERIORS.c.effect_mean * bindparam("sign") < 0)
_WALL_SECONDS = case((_NEWEST.c.budget_seconds > 0, _NEWEST.c.training_seconds / _NEWEST.c.budget_seconds), else_=1.0)
"""Of each second of the run's budget, which may count CPU time."""
_EARLY_STOPS = select(
    func.count(),
    func.sum(case((_IS_STOPPED, 1), else_=0)),
    func.sum(_NEWEST.c.total_seconds),
    func.sum(case((_IS_STOPPED, (1 - _NEWEST.c.hopeless_at) * _WALL_SECONDS), else_=0.0)),
    func.sum(case((_IS_SAMPLED, 1), else_=0)),
    func.sum(case((_IS_WRONG, 1), else_=0)),
).select_from(
    _NEWEST.outerjoin(
        _POSTERIORS,
        (_POSTERIORS.c.commit_sha == _NEWEST.c.commit_sha) & (_POSTERIORS.c.hardware_class == _NEWEST.c.hardware_class),
    )
)
_EPOCHS, _CLASSES = table_of(EvidenceEpoch), table_of(ClassProgress)
_IS_KEPT = is_of_same_class(_CLASSES.c, _EPOCHS.c)
_BEYOND = (
    select(func.count())
    .where(is_of_same_class(_RUNS.c, _EPOCHS.c))
    .where(_RUNS.c.id > func.coalesce(_CLASSES.c.through_run_id, 0))
    .correlate(_EPOCHS, _CLASSES)
)
_MADE_BEYOND = _BEYOND.where(_RUNS.c.kind.in_([kind for kind in JobKind if kind.makes_experiment]))
_CLASS_COUNTS = (
    select(
        _EPOCHS.c.hardware_class.label("name"),
        (func.coalesce(_CLASSES.c.runs, 0) + _BEYOND.scalar_subquery()).label("runs"),
        (func.coalesce(_CLASSES.c.experiments, 0) + _MADE_BEYOND.scalar_subquery()).label("experiments"),
    )
    .select_from(_EPOCHS.outerjoin(_CLASSES, _IS_KEPT))
    .where(_EPOCHS.c.project_id == bindparam("project_id"))
)
_RUN_ROWS = (
    select(Run, WORKER_NAME)
    .join(Worker, Worker.id == Run.worker_id)
    .join(Volunteer, Volunteer.id == Worker.volunteer_id)
    .options(undefer_group(REPORT))
)


def list_runs_of_commit(session: Session, sha: str) -> Sequence[RunRow]:
    return session.execute(_RUN_ROWS.where(Run.commit_sha == sha).order_by(Run.id)).all()


def list_runs_by_id(session: Session, ids: Sequence[int]) -> Sequence[RunRow]:
    return session.execute(_RUN_ROWS.where(Run.id.in_(ids))).all()


def find_run(session: Session, run_id: int) -> RunRow | None:
    return session.execute(_RUN_ROWS.where(Run.id == run_id)).one_or_none()


def list_hardware_classes(session: Conn, project_id: int) -> list[HardwareClassCount]:
    """Hardware classes that a project was measured in, most runs first: counts that are kept, and the runs beyond."""
    rows = session.execute(_CLASS_COUNTS, {"project_id": project_id}).mappings()
    counts = [HardwareClassCount(**row) for row in rows if row["runs"]]
    return sorted(counts, key=lambda count: (-count.runs, count.name))


def find_curve(session: Conn, sha: str, hardware_class: str) -> list[CurvePoint]:
    """The thinned curve of a commit's first whole run in a class, as if it had the contract's budget; empty where there
    is none."""
    recent, key = _RECENT.for_database(session), (sha, hardware_class)
    if (known := recent.find(key)) is not None:
        return known
    run = session.execute(_FIRST_WHOLE, {"sha": sha, "hardware_class": hardware_class}).first()
    if run is None:
        return []
    run_id, pace = run
    points = session.scalar(_CURVE, {"run_id": run_id}) or []
    return recent.store(key, thin([(step, seconds / pace, loss) for step, seconds, loss in points]))


def thin(points: Sequence[Sequence[Any]], most: int = CURVE_POINTS) -> list[CurvePoint]:
    """The first point of a stored curve as it is, then the means of equal parts of the others: less noise, not more."""
    first, rest = points[:1], points[1:]
    size = max(1, -(-len(rest) // (most - 1)))
    parts = [first, *(rest[start : start + size] for start in range(0, len(rest), size))] if first else []
    return _POINTS.validate_python(
        [
            {
                "step": part[-1][0],
                "seconds": sum([point[1] for point in part]) / len(part),
                "loss": sum([point[2] for point in part]) / len(part),
            }
            for part in parts
        ]
    )


def view_early_stops(session: Conn, project: Project) -> EarlyStops:
    """The results of early stops in the project's newest runs, at most 1,000."""
    contract = projects.contract_of(project)
    given = {"project_id": project.id, "sign": contract.objective.sign}
    runs, stopped, spent, saved_shares, sampled, wrong = session.execute(_EARLY_STOPS, given).one()
    return EarlyStops(
        runs=runs,
        stopped=stopped or 0,
        spent_seconds=spent or 0.0,
        saved_seconds=(saved_shares or 0.0) * contract.budget.training_seconds,
        sampled=sampled or 0,
        wrong=wrong or 0,
    )


class Work(NamedTuple):
    """The work of a worker's run in its seconds of training, on the budget's clock. A count of 0 is not known."""

    worker_id: int
    tokens: int
    steps: int
    seconds: float


def compare_pace(own: Work, parents: Sequence[Work]) -> float | None:
    """A run's tokens a second over those of its parent's runs (their median), None where that is not known.

    The parent's runs by the same worker are used where there are any: machines of one class differ, too. Steps stand
    in for tokens that a project does not count.
    """
    same = [one for one in parents if one.worker_id == own.worker_id] or parents
    count: Callable[[Work], int] = attrgetter("tokens" if own.tokens else "steps")
    rates = [count(one) / one.seconds for one in same if one.seconds > 0 and count(one) > 0]
    if not rates or own.seconds <= 0 or count(own) <= 0:
        return None
    return count(own) / own.seconds / median(rates)
