"""Questions about a class's progress: what is kept of it, and what its runs say beyond that."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Integer, Select, and_, case, cast, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from coordinator.db.engine import LabelledRow
from coordinator.models import (
    ClassProgress,
    CommitPosterior,
    Contribution,
    EvidenceEpoch,
    Experiment,
    LeaderChange,
    Project,
    Run,
    StoredBin,
    TopicCount,
    table_of,
)
from coordinator.models.base import is_of_class, is_of_commit, is_of_same_class
from coordinator.models.experiments import IS_POSTERIOR_OF_RUN
from coordinator.records.bins import OUTCOMES, Bin
from shared.experiments import JobKind, Standing
from shared.runs import RunOutcome

_RUNS, _POSTERIORS, _EXPERIMENTS = table_of(Run), table_of(CommitPosterior), table_of(Experiment)
_CLASSES, _BINS, _CHANGES = table_of(ClassProgress), table_of(StoredBin), table_of(LeaderChange)
_EPOCHS, _TOPICS, _CONTRIBUTIONS = table_of(EvidenceEpoch), table_of(TopicCount), table_of(Contribution)
_MAKES_EXPERIMENT = _RUNS.c.kind.in_([kind for kind in JobKind if kind.makes_experiment])
_COMPARES = and_(_RUNS.c.counts, _RUNS.c.rung.is_(None))
_NO_LEADERS = Standing.HELD, Standing.REJECTED


class Scope(NamedTuple):
    """A project's hardware class. `sign` is 1 where a lower metric is better, else -1."""

    project_id: int
    hardware_class: str
    sign: float

    def of(self, table: Any) -> Any:
        """The condition that a row of `table` belongs to the class."""
        return is_of_class(table.c, self.project_id, self.hardware_class)


class ProgressCounts(NamedTuple):
    """The kept counts of a class; all zero where nothing is kept yet."""

    runs: int = 0
    experiments: int = 0
    through_run_id: int = 0
    width: int = 1
    is_stale: bool = False


def list_classes(session: Session) -> list[tuple[int, str]]:
    """All classes in which something was measured."""
    query = select(_EPOCHS.c.project_id, _EPOCHS.c.hardware_class).order_by(_EPOCHS.c.project_id)
    return [(row.project_id, row.hardware_class) for row in session.execute(query)]


def list_behind(session: Session) -> list[tuple[int, str]]:
    """Classes with runs beyond what is kept of them, or whose bins are to be made again."""
    is_its = is_of_same_class(_CLASSES.c, _EPOCHS.c)
    newest = select(func.max(_RUNS.c.id)).where(is_of_same_class(_RUNS.c, _EPOCHS.c))
    query = select(_EPOCHS.c.project_id, _EPOCHS.c.hardware_class).outerjoin(_CLASSES, is_its)
    is_behind = newest.scalar_subquery() > func.coalesce(_CLASSES.c.through_run_id, 0)
    query = query.where(or_(is_behind, _CLASSES.c.is_stale)).order_by(_EPOCHS.c.project_id, _EPOCHS.c.hardware_class)
    return [(row.project_id, row.hardware_class) for row in session.execute(query)]


def find_kept(session: Session, scope: Scope) -> ProgressCounts:
    columns = (_CLASSES.c[name] for name in ProgressCounts._fields)
    row = session.execute(select(*columns).where(scope.of(_CLASSES))).first()
    return ProgressCounts._make(row) if row else ProgressCounts()


def count_beyond(session: Session, scope: Scope, run_id: int) -> tuple[int, int, int]:
    """Runs above an id, those of them that made their commit, and the newest one's id (0 without any)."""
    made = func.count().filter(_MAKES_EXPERIMENT)
    query = select(func.count(), made, func.coalesce(func.max(_RUNS.c.id), 0))
    runs, experiments, newest = session.execute(query.where(scope.of(_RUNS), _RUNS.c.id > run_id)).one()
    return runs, experiments, newest


def list_bins(session: Session, scope: Scope) -> list[Bin]:
    """The stored bins of a class."""
    query = select(*(_BINS.c[name] for name in Bin._fields)).where(scope.of(_BINS)).order_by(_BINS.c.number)
    return [Bin._make(row) for row in session.execute(query)]


def make_bins(session: Session, scope: Scope, after_id: int, last_id: int, offset: int, width: int) -> list[Bin]:
    """Bins of the runs above `after_id` up to `last_id`, of which `offset` came before.

    `leading` is the best metric, as known now, among the commits that these runs measured up to the bin's end. Runs on
    rungs had another budget, so theirs is no `best`.
    """
    binned = _number_runs(scope, after_id, last_id, offset, width)
    best = func.min(binned.c.cost)
    lead = func.min(binned.c.lead)
    query = (
        select(
            binned.c.number, func.min(binned.c.id), func.max(binned.c.id), func.count(),
            *(func.count().filter(binned.c.outcome == outcome) for outcome in OUTCOMES),
            best * scope.sign, func.min(case((binned.c.cost == binned.c.lowest, binned.c.id))), lead * scope.sign,
        )
        .group_by(binned.c.number)
        .order_by(binned.c.number)
    )  # fmt: skip
    return [Bin._make(row) for row in session.execute(query)]


def _number_runs(scope: Scope, after_id: int, last_id: int, offset: int, width: int) -> Any:
    counts = and_(_RUNS.c.outcome == RunOutcome.OK, _COMPARES)
    leads = _POSTERIORS.c.standing.not_in(_NO_LEADERS)
    number = cast(func.row_number().over(order_by=_RUNS.c.id) - 1 + offset, Integer) // width
    runs = (
        select(
            _RUNS.c.id, _RUNS.c.outcome, number.label("number"),
            case((counts, _RUNS.c.metric * scope.sign)).label("cost"),
            func.min(case((leads, _POSTERIORS.c.rank_score))).over(order_by=_RUNS.c.id).label("lead"),
        )
        .select_from(_RUNS.outerjoin(_POSTERIORS, IS_POSTERIOR_OF_RUN))
        .where(scope.of(_RUNS), _RUNS.c.id > after_id, _RUNS.c.id <= last_id)
        .subquery()
    )  # fmt: skip
    lowest = func.min(runs.c.cost).over(partition_by=runs.c.number).label("lowest")
    return select(runs, lowest).subquery()


def store_bins(session: Session, scope: Scope, bins: Iterable[Bin], *, from_number: int) -> None:
    """Replace a class's bins from a number on."""
    session.execute(delete(_BINS).where(scope.of(_BINS), _BINS.c.number >= from_number))
    key = {"project_id": scope.project_id, "hardware_class": scope.hardware_class}
    rows = [key | one._asdict() for one in bins if one.number >= from_number]
    if rows:
        session.execute(insert(_BINS), rows)


def store_kept(session: Session, scope: Scope, kept: ProgressCounts) -> None:
    done = session.execute(
        update(_CLASSES).where(scope.of(_CLASSES)).values(**kept._asdict()).returning(_CLASSES.c.runs)
    )
    if done.first() is None:
        key = {"project_id": scope.project_id, "hardware_class": scope.hardware_class}
        session.execute(insert(_CLASSES), key | kept._asdict())


def forget_all(session: Session) -> None:
    """Have all counts and bins made again. What led is kept: nothing tells that but the past."""
    for table in (_CLASSES, _BINS, _TOPICS, _CONTRIBUTIONS):
        session.execute(delete(table))


def find_leader_sha(session: Session, scope: Scope, *, is_record: bool) -> str | None:
    """The commit that led when it was noted last."""
    query = select(_CHANGES.c.commit_sha).where(scope.of(_CHANGES), _CHANGES.c.is_record.is_(is_record))
    sha: str | None = session.scalar(query.order_by(_CHANGES.c.id.desc()).limit(1))
    return sha


def add_leader(
    session: Session, scope: Scope, leader: CommitPosterior, *, is_record: bool, run_number: int, moment: datetime
) -> None:
    """Note that a commit came to lead."""
    key = {"project_id": scope.project_id, "hardware_class": scope.hardware_class}
    numbers = {"commit_sha": leader.commit_sha, "metric_mean": leader.metric_mean, "metric_sd": leader.metric_sd}
    place = {"is_record": is_record, "run_number": run_number, "changed_at": moment}
    session.execute(insert(_CHANGES), key | numbers | place)


class Milestone(NamedTuple):
    """A commit that came to lead and still stands, with what is known of it now."""

    change: LeaderChange
    project: str
    experiment_id: int
    title: str
    posterior: CommitPosterior


def list_milestones(session: Session, limit: int) -> list[Milestone]:
    """The newest ones of all projects, newest first."""
    is_its = is_of_commit(CommitPosterior, LeaderChange.commit_sha, LeaderChange.hardware_class)
    query: Select[*tuple[Any, ...]] = (
        select(LeaderChange, Project.name, Experiment.id, Experiment.title, CommitPosterior)
        .join(Project, Project.id == LeaderChange.project_id)
        .join(Experiment, Experiment.commit_sha == LeaderChange.commit_sha)
        .join(CommitPosterior, is_its)
        .where(CommitPosterior.standing.not_in((*_NO_LEADERS, Standing.SUSPECT)))
        .order_by(LeaderChange.id.desc())
        .limit(limit)
    )
    return [Milestone._make(row) for row in session.execute(query)]


class Mark(NamedTuple):
    """One run as a mark of the plot. It does not count in quarantine, and on a rung, whose budget is another."""

    run_id: int
    experiment_id: int | None
    outcome: str
    metric: float | None
    counts: bool
    verdict: str | None


def list_marks(session: Session, scope: Scope, first_id: int, last_id: int) -> list[Mark]:
    """Runs of a class with ids in a range, oldest first."""
    query = (
        select(_RUNS.c.id, _RUNS.c.experiment_id, _RUNS.c.outcome, _RUNS.c.metric, _COMPARES, _POSTERIORS.c.verdict)
        .select_from(_RUNS.outerjoin(_POSTERIORS, IS_POSTERIOR_OF_RUN))
        .where(scope.of(_RUNS), _RUNS.c.id >= first_id, _RUNS.c.id <= last_id)
        .order_by(_RUNS.c.id)
    )
    return [Mark._make(row) for row in session.execute(query)]


def list_runs(session: Session, scope: Scope, first_id: int, last_id: int) -> Sequence[LabelledRow]:
    """Runs as `list_marks` lists them, with columns as `ProgressPoint` names them, `commit_sha` and `CommitPosterior`.
    One on a rung has no metric here, and its reason names the rung."""
    is_ordinary = Run.rung.is_(None)
    query = (
        select(
            Run.id.label("run_id"), Run.experiment_id, Run.commit_sha, Experiment.title, Run.outcome,
            case((is_ordinary, Run.metric)).label("metric"), Run.finished_at, CommitPosterior,
            case((is_ordinary, Run.reason), else_="on the rung " + Run.rung).label("reason"),
        )
        .outerjoin(Experiment, Experiment.id == Run.experiment_id)
        .outerjoin(CommitPosterior, IS_POSTERIOR_OF_RUN)
        .where(scope.of(_RUNS), Run.id >= first_id, Run.id <= last_id)
        .order_by(Run.id)
    )  # fmt: skip
    return session.execute(query).all()
