"""Lists of runs and of their curves, filtered as lists of experiments are."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import Query
from sqlalchemy import ColumnElement, Select, null, select
from sqlalchemy.orm import Session, undefer

from coordinator.evidence import service as evidence
from coordinator.evidence.run_stats import list_runs_by_id, thin
from coordinator.experiments import listing
from coordinator.experiments.filters import CONDITIONS, OF_WORKER, Condition, FilterQuery, Filters, list_conditions
from coordinator.experiments.service import QUANTITIES
from coordinator.http.pagination import Position, encode_position
from coordinator.http.parameters import Quantity, suggest
from coordinator.models import Branch, Commit, CommitPosterior, Experiment, Finding, Project, Run, Volunteer, Worker
from coordinator.models.evidence import HAS_METRICS, IS_FAILED
from coordinator.models.experiments import IS_POSTERIOR_OF_RUN
from shared.protocol import CLEAN, Page
from shared.runs import RunCurve, RunOutcome, RunView

OWN = ("project_id", "hardware_class", "kind", "failed", "worker", "volunteer", "since", "until", "metric_above",
       "metric_below")  # fmt: skip
"""Filters that a run itself answers, and not its experiment."""

_CONDITIONS: Mapping[str, Condition] = {
    **CONDITIONS,
    "project_id": lambda value: Run.project_id == value,
    "hardware_class": lambda value: Run.hardware_class == value,
    "kind": lambda value: Run.kind == value,
    "failed": lambda value: (Run.outcome != RunOutcome.OK) if value else (Run.outcome == RunOutcome.OK),
    "since": lambda value: Run.finished_at >= value,
    "until": lambda value: Run.finished_at < value,
    "metric_above": lambda value: Run.metric >= value,
    "metric_below": lambda value: Run.metric <= value,
}
NEWEST, DONE, METRIC = "newest", "done", "metric"
ORDERS: Mapping[str, Any] = {
    NEWEST: null(), DONE: Run.finished_at, METRIC: Run.metric, **{name: getattr(Run, name) for name in QUANTITIES}
}  # fmt: skip
"""The columns by which runs are ordered, beside the further metrics of imported sessions."""

_INDEXED = {
    NEWEST: ("hardware_class",), DONE: ("since", "until"), METRIC: ("hardware_class", "metric_above", "metric_below")
}  # fmt: skip
"""Filters that the index of an order has, too."""

Numbers = Annotated[Sequence[Annotated[int, Query(ge=1, le=2**31 - 1)]], Query(max_length=200)]


class RunQuery(FilterQuery):
    """The filters and the order of a list of runs, as they stand in addresses."""

    hardware_class: Annotated[str | None, Query(max_length=200, description="only runs in this hardware class")] = None
    failed: Annotated[bool | None, Query(description="whether the run failed")] = None
    outcome: Annotated[RunOutcome | None, Query(description="only runs that ended so")] = None
    experiment: Annotated[Numbers, Query(description="only runs of these experiments; may be repeated")] = ()
    metric_above: Annotated[Quantity | None, Query(description="the run's own metric, at least")] = None
    metric_below: Annotated[Quantity | None, Query(description="likewise, at most")] = None
    sort: Annotated[
        str,
        Query(
            max_length=80,
            description="`newest`, `done` (when the run ended), `metric` (of runs with the contract's budget in one "
            "hardware class, by default the one with the most runs), "
            f"{', '.join(QUANTITIES)}, or a further metric of an imported session",
        ),
        CLEAN,
    ] = NEWEST
    ascending: Annotated[bool, Query(description="oldest or lowest first")] = False


def view_page(session: Session, project: Project, asked: RunQuery, cursor: str | None, limit: int) -> Page[RunView]:
    """Runs with their reports, newest first unless another order is asked for. Raises CursorInvalidError."""
    ids, following = _list_ids(session, project, asked, cursor, limit)
    found = {run.id: (run, worker) for run, worker in list_runs_by_id(session, ids)}
    items = [evidence.view_run(*found[run_id], project.name) for run_id in ids]
    return Page(items=items, next_cursor=following)


def view_curves(
    session: Session, project: Project, asked: RunQuery, points: int, cursor: str | None, limit: int
) -> Page[RunCurve]:
    """The curves of runs, each thinned to so many points. Raises CursorInvalidError."""
    ids, following = _list_ids(session, project, asked, cursor, limit)
    runs = session.scalars(select(Run).where(Run.id.in_(ids)).options(undefer(Run.curve)))
    found = {run.id: run for run in runs}
    return Page(items=[_view_curve(found[run_id], points) for run_id in ids], next_cursor=following)


def _view_curve(run: Run, points: int) -> RunCurve:
    whole = len(run.curve) <= points
    curve = run.curve if whole else [(one.step, one.seconds, one.loss) for one in thin(run.curve, points)]
    step, seconds, loss = (list(part) for part in zip(*curve, strict=True)) if curve else ([], [], [])
    return RunCurve(
        run_id=run.id, experiment_id=run.experiment_id, commit_sha=run.commit_sha, hardware_class=run.hardware_class,
        seed=run.seed, outcome=RunOutcome(run.outcome), metric=run.metric, step=step, seconds=seconds, loss=loss,
    )  # fmt: skip


def _list_ids(
    session: Session, project: Project, query: RunQuery, cursor: str | None, limit: int
) -> tuple[list[int], str | None]:
    filters = query.to_filters(project_id=project.id)
    sort = DONE if query.sort == NEWEST and (filters.since or filters.until) else query.sort
    value = ORDERS[sort] if sort in ORDERS else _find_metric(session, project, sort)
    if sort == METRIC and filters.hardware_class is None:
        filters = filters._replace(hardware_class=listing.choose_class(session, project.id))
    after = listing.find_position(cursor, Run.id, value)
    fits = list_conditions(session, filters, _CONDITIONS)
    fits += [Run.outcome == query.outcome] if query.outcome else []
    fits += [Run.experiment_id.in_(query.experiment)] if query.experiment else []
    fits += [Run.rung.is_(None)] if sort == METRIC else []
    keys = select(Run.id, value).where(Run.project_id == project.id, *([] if sort in ORDERS else [HAS_METRICS]))
    few = listing.find_few(session, _list_sources(session, query, filters))
    if few is not None:
        keys = keys.where(Run.id.in_(few))
    else:
        given = filters.given
        keys = keys.where(*(_CONDITIONS[name](given[name]) for name in _INDEXED.get(sort, ()) if name in given))

    def list_keys(place: Position | None) -> Select[*tuple[Any, ...]]:
        return listing.arrange(keys, Run.id, value, place, ascending=query.ascending)

    found, end = listing.walk(session, Run.id, list_keys, _join(filters).where(*fits), after, limit)
    return found, encode_position(end) if end else None


def _find_metric(session: Session, project: Project, name: str) -> ColumnElement[float]:
    """A further metric of an imported session's runs. Raises OrderInvalidError where no run has it."""
    value: ColumnElement[float] = Run.metrics[name].as_float()
    having = select(Run.metrics).where(Run.project_id == project.id, HAS_METRICS)
    if session.execute(having.where(value.is_not(None)).limit(1)).first() is None:
        newest = session.scalar(having.order_by(Run.id.desc()).limit(1)) or {}
        raise listing.OrderInvalidError(f"Runs of {project.name} have no {name!r}. {suggest(name, [*ORDERS, *newest])}")
    return value


def _list_sources(session: Session, query: RunQuery, filters: Filters) -> Iterator[Select[int]]:
    """For each filter with an index the runs that it lets through, and perhaps some others."""
    ids, own, given = select(Run.id), Run.project_id == filters.project_id, filters.given
    if query.experiment:
        yield ids.where(Run.experiment_id.in_(query.experiment))
    if given.keys() & OF_WORKER:
        yield ids.where(Run.worker_id.in_(listing.list_workers(session, filters)))
    if filters.failed or query.outcome not in (None, RunOutcome.OK):
        is_outcome = Run.outcome == query.outcome if query.outcome else _CONDITIONS["failed"](True)
        yield ids.where(own, IS_FAILED, is_outcome)
    of_class = Run.hardware_class.in_(listing.classes_of(filters))
    for names, index in ((("since", "until"), own), (("metric_above", "metric_below", "hardware_class"), of_class)):
        if bounds := [_CONDITIONS[name](given[name]) for name in names if name in given]:
            yield ids.where(own, index, *bounds)
    if given.keys() - set(OWN):
        others: dict[str, Any] = dict.fromkeys(OWN)
        of_experiments = filters._replace(**others)._replace(project_id=filters.project_id)
        few = listing.find_few(session, listing.list_sources(session, of_experiments))
        if few is not None:
            yield ids.where(Run.experiment_id.in_(few))


def _join(filters: Filters) -> Select[*tuple[Any, ...]]:
    """Runs with what the filters' conditions need of their experiments and workers."""
    query = select(Run.id, Run.id).select_from(Run)
    given = filters.given.keys()
    if given & OF_WORKER:
        query = query.join(Worker, Worker.id == Run.worker_id).join(Volunteer, Volunteer.id == Worker.volunteer_id)
    if "has_code" in given:
        query = query.join(Commit, Commit.sha == Run.commit_sha)
    if given - set(OWN) - {"has_code"}:
        query = query.outerjoin(Experiment, Experiment.id == Run.experiment_id)
        query = query.outerjoin(Finding, Finding.experiment_id == Experiment.id)
        query = query.outerjoin(Branch, Branch.id == Experiment.branch_id)
        query = query.outerjoin(CommitPosterior, IS_POSTERIOR_OF_RUN)
    return query
