"""Questions about experiments. Rows join what a list shows, so that a page is one query."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, bindparam, func, insert, null, select, tuple_, update
from sqlalchemy.orm import Session, aliased

from coordinator.db.engine import Conn
from coordinator.http.pagination import Position
from coordinator.models import (
    AssembledStep,
    Branch,
    Commit,
    CommitPosterior,
    Experiment,
    Finding,
    Project,
    Run,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.models.experiments import IS_FIRST_RUN, IS_POSTERIOR_OF_RUN, MEASURED
from shared.experiments import Standing, Trial
from shared.records import ExperimentSort
from shared.runs import RunOutcome

MAX_EXAMINED = 2_000
"""Number of experiments that one page of a filtered list looks at; the next page goes on behind them."""

EXAMINED_AT_ONCE = 250

_ParentExperiment = aliased(Experiment)


class ExperimentRow(NamedTuple):
    """An experiment with its first run, its posterior in that run's hardware class, and its parent's number."""

    experiment: Experiment
    run: Run
    posterior: CommitPosterior | None
    branch: str
    worker: str
    parent_id: int | None
    quarantine: str | None
    has_code: bool


def _rows() -> Select[*tuple[Any, ...]]:
    return (
        select(
            Experiment,
            Run,
            CommitPosterior,
            Branch.name,
            Worker.name,
            _ParentExperiment.id,
            func.coalesce(Volunteer.quarantine, Worker.quarantine),
            Commit.has_code,
        )
        .join(Commit, Commit.sha == Experiment.commit_sha)
        .join(Run, IS_FIRST_RUN)
        .join(Branch, Branch.id == Experiment.branch_id)
        .join(Worker, Worker.id == Experiment.worker_id)
        .join(Volunteer, Volunteer.id == Worker.volunteer_id)
        .outerjoin(CommitPosterior, IS_POSTERIOR_OF_RUN)
        .outerjoin(_ParentExperiment, _ParentExperiment.commit_sha == Experiment.parent_sha)
    )


def find_experiment(session: Session, experiment_id: int) -> ExperimentRow | None:
    row = session.execute(_rows().where(Experiment.id == experiment_id)).one_or_none()
    return ExperimentRow(*row) if row else None


def find_finding(session: Session, experiment_id: int) -> Finding | None:
    """The text that an experiment's agent wrote."""
    return session.scalar(select(Finding).where(Finding.experiment_id == experiment_id))


class ExperimentFilters(NamedTuple):
    """The filters of a list of experiments; None means no filter. `hardware_class` is that of the first run."""

    hardware_class: str | None = None
    verdict: str | None = None
    standing: str | None = None
    topic: str | None = None
    branch: str | None = None
    volunteer: str | None = None
    kind: str | None = None
    failed: bool | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    effect_above: float | None = None
    effect_below: float | None = None


_CONDITIONS: Mapping[str, Callable[[Any], ColumnElement[bool]]] = {
    "hardware_class": lambda value: Run.hardware_class == value,
    "verdict": lambda value: CommitPosterior.verdict == value,
    "standing": lambda value: CommitPosterior.standing == value,
    "topic": lambda value: Experiment.topic == value,
    "branch": lambda value: Branch.name == value,
    "volunteer": lambda value: Volunteer.name == value,
    "kind": lambda value: Experiment.kind == value,
    "failed": lambda value: (Run.outcome != RunOutcome.OK) if value else (Run.outcome == RunOutcome.OK),
    "text": lambda value: (
        Experiment.title.icontains(value, autoescape=True) | Experiment.axis.icontains(value, autoescape=True)
    ),
    "since": lambda value: Experiment.created_at >= value,
    "until": lambda value: Experiment.created_at < value,
    "effect_above": lambda value: CommitPosterior.effect_mean >= value,
    "effect_below": lambda value: CommitPosterior.effect_mean <= value,
}
"""The condition of each filter on a row of `_rows`."""


def list_experiments(
    session: Session, project_id: int, filters: ExperimentFilters, sort: ExperimentSort, ascending: bool,
    after: Position | None, limit: int,
) -> tuple[list[ExperimentRow], Position | None]:  # fmt: skip
    """A page of a project's experiments in an order, and where the next one begins.

    Keys are read from an index in that order, at most MAX_EXAMINED of them, and then filtered. A page may so have
    fewer than `limit` rows, and go on nevertheless. Orders by numbers need a hardware class.
    """
    is_plain = sort is ExperimentSort.NEWEST and filters == ExperimentFilters(filters.hardware_class)
    examined = limit + 1 if is_plain else MAX_EXAMINED
    keys_of = _newest_keys if sort is ExperimentSort.NEWEST else _measured_keys
    keys = session.execute(keys_of(project_id, filters, sort, ascending, after).limit(examined)).all()
    column = Experiment.id if sort is ExperimentSort.NEWEST else Experiment.commit_sha
    conditions = [_CONDITIONS[name](value) for name, value in filters._asdict().items() if value is not None]
    found: list[tuple[ExperimentRow, Position]] = []
    for start in range(0, len(keys), EXAMINED_AT_ONCE):
        part = keys[start : start + EXAMINED_AT_ONCE]
        query = _rows().add_columns(column).where(column.in_([key for key, _ in part]), *conditions)
        rows = {row[-1]: ExperimentRow(*row[:-1]) for row in session.execute(query)}
        found += [(rows[key], Position(key, value)) for key, value in part if key in rows]
        if len(found) > limit:
            return [row for row, _ in found[:limit]], found[limit - 1][1]
    return [row for row, _ in found], Position(*keys[-1]) if len(keys) == examined else None


def _newest_keys(
    project_id: int, filters: ExperimentFilters, _sort: ExperimentSort, ascending: bool, after: Position | None
) -> Select[*tuple[Any, ...]]:
    """Ids of experiments by their age. One filter alone is applied here, so that an index has this order."""
    own_id: Any = Experiment.id
    narrowed: ColumnElement[bool]
    if filters.hardware_class is not None:  # findings know it, and have an index by it
        own_id = Finding.experiment_id
        narrowed = (Finding.project_id == project_id) & (Finding.hardware_class == filters.hardware_class)
    else:
        narrowed = Experiment.project_id == project_id
        if filters.topic is not None:
            narrowed &= Experiment.topic == filters.topic
        elif filters.branch is not None:
            branch = select(Branch.id).where(Branch.project_id == project_id, Branch.name == filters.branch)
            narrowed = Experiment.branch_id == branch.scalar_subquery()
    query = select(own_id, null()).where(narrowed)
    dated = aliased(Experiment)
    moment = dated.created_at
    of_project = select(dated.id).where(dated.project_id == project_id).limit(1)
    if filters.since is not None:
        query = query.where(
            own_id >= of_project.where(moment >= filters.since).order_by(moment, dated.id).scalar_subquery()
        )
    if filters.until is not None:
        last = of_project.where(moment < filters.until).order_by(moment.desc(), dated.id.desc())
        query = query.where(own_id <= last.scalar_subquery())
    if after is not None:
        query = query.where(own_id > after.key if ascending else own_id < after.key)
    return query.order_by(own_id if ascending else own_id.desc())


def _measured_keys(
    project_id: int, filters: ExperimentFilters, sort: ExperimentSort, ascending: bool, after: Position | None
) -> Select[*tuple[Any, ...]]:
    """Commits by their posterior in a hardware class, with the number that orders them."""
    value: Any = CommitPosterior.effect_mean if sort is ExperimentSort.EFFECT else CommitPosterior.metric_mean
    sha = CommitPosterior.commit_sha
    query = select(sha, value).where(
        CommitPosterior.project_id == project_id, CommitPosterior.hardware_class == filters.hardware_class
    )
    query = query.where(value.is_not(None))
    if sort is ExperimentSort.EFFECT and filters.effect_above is not None:
        query = query.where(value >= filters.effect_above)
    if sort is ExperimentSort.EFFECT and filters.effect_below is not None:
        query = query.where(value <= filters.effect_below)
    if after is not None:
        place, bound = tuple_(value, sha), tuple_(after.value, after.key)
        query = query.where(place > bound if ascending else place < bound)
    return query.order_by(value, sha) if ascending else query.order_by(value.desc(), sha.desc())


def list_best(
    session: Session, project_id: int, hardware_class: str, sign: float, limit: int
) -> list[tuple[int, dict[str, Any], float]]:
    """The experiments with the best metrics in a class, the best first: number, settings, metric. Those that
    maintainers must decide on, or rejected, are left out. `sign` is 1 where lower is better, else -1."""
    value = _POSTERIORS.c.metric_mean
    query = select(_EXPERIMENTS.c.id, _EXPERIMENTS.c.settings, value)
    query = query.join(_POSTERIORS, _POSTERIORS.c.commit_sha == _EXPERIMENTS.c.commit_sha)
    query = query.where(_POSTERIORS.c.project_id == project_id, _POSTERIORS.c.hardware_class == hardware_class)
    query = query.where(_POSTERIORS.c.standing.not_in((Standing.HELD, Standing.REJECTED)))
    order = (value, _POSTERIORS.c.commit_sha) if sign > 0 else (value.desc(), _POSTERIORS.c.commit_sha.desc())
    rows = session.execute(query.order_by(*order).limit(limit))
    return [(number, settings, metric) for number, settings, metric in rows]


def list_of_volunteer(session: Session, volunteer_id: int, limit: int) -> list[tuple[ExperimentRow, str]]:
    """The newest experiments by a volunteer's workers, each with its project's name."""
    own = session.scalars(select(Worker.id).where(Worker.volunteer_id == volunteer_id)).all()
    newest = select(Experiment.id).where(Experiment.worker_id.in_(own)).order_by(Experiment.id.desc()).limit(limit)
    ids = (
        session.scalars(newest).all() if own else []
    )  # in steps: PostgreSQL would read all experiments, looking for them
    query = _rows().add_columns(Project.name).join(Project, Project.id == Experiment.project_id)
    query = query.where(Experiment.id.in_(ids)).order_by(Experiment.id.desc())
    return [(ExperimentRow(*row[:-1]), row[-1]) for row in session.execute(query)]


_EXPERIMENTS, _RUNS, _POSTERIORS, _FINDINGS = (table_of(model) for model in (Experiment, Run, CommitPosterior, Finding))
_TRIALS = (
    select(
        *(_EXPERIMENTS.c[name] for name in ("commit_sha", "parent_sha", "title", "axis", "settings")),
        _POSTERIORS.c.metric_mean,
        _POSTERIORS.c.metric_sd,
        _RUNS.c.outcome,
    )
    .select_from(MEASURED.join(_FINDINGS, _FINDINGS.c.experiment_id == _EXPERIMENTS.c.id))
    .where(_FINDINGS.c.project_id == bindparam("project_id"))
    .where(_FINDINGS.c.hardware_class == bindparam("hardware_class"))
    .where(~_FINDINGS.c.is_hidden)
    .order_by(_FINDINGS.c.experiment_id.desc())
    .limit(bindparam("limit"))
)


def list_trials(session: Conn, project_id: int, hardware_class: str, limit: int) -> list[dict[str, Any]]:
    """The newest experiments, newest first, without those of authors in quarantine, as `shared.experiments.Trial` names
    their columns."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "limit": limit}
    return [dict(zip(Trial.model_fields, row, strict=True)) for row in session.execute(_TRIALS, given).all()]


_MOVE = update(_EXPERIMENTS).where(_EXPERIMENTS.c.id == bindparam("experiment_id"))
_ADD = insert(_EXPERIMENTS).returning(_EXPERIMENTS.c.id)


def add_experiment(session: Conn, columns: Mapping[str, Any]) -> int:
    """Add a row; returns its id."""
    return int(session.scalar(_ADD, columns))


def move_to_branch(session: Conn, experiment_id: int, branch_id: int) -> None:
    session.execute(_MOVE, {"experiment_id": experiment_id, "branch_id": branch_id})


def add_steps(session: Conn, experiment_id: int, fates: Mapping[int, str]) -> None:
    """Store what became of other experiments' steps in this one."""
    if fates:
        rows = [{"experiment_id": experiment_id, "step_id": step, "fate": fate} for step, fate in fates.items()]
        session.execute(insert(table_of(AssembledStep)), rows)


def list_steps(session: Conn, experiment_id: int) -> list[tuple[int, str]]:
    """The experiments whose steps an experiment was put together from, with what became of each."""
    query = select(AssembledStep.step_id, AssembledStep.fate).where(AssembledStep.experiment_id == experiment_id)
    return [(step, fate) for step, fate in session.execute(query.order_by(AssembledStep.step_id))]
