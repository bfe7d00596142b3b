"""Lists of runs and of their curves, filtered as lists of experiments are."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, NamedTuple

from fastapi import Query
from sqlalchemy import Select, literal, null, select, tuple_
from sqlalchemy.orm import Session, undefer

from coordinator.evidence import service as evidence
from coordinator.evidence.run_stats import list_runs_by_id, thin
from coordinator.experiments.filters import CONDITIONS, OF_WORKER, Condition, FilterQuery, Filters, is_worker
from coordinator.experiments.listing import find_few, walk
from coordinator.http.pagination import Position, decode_position, encode_position
from coordinator.models import Branch, Commit, CommitPosterior, Experiment, Finding, Project, Run, Volunteer, Worker
from coordinator.models.base import UtcDateTime
from coordinator.models.experiments import IS_POSTERIOR_OF_RUN
from shared.protocol import Number, Page
from shared.runs import RunCurve, RunOutcome, RunSort, RunView

OWN = ("project_id", "hardware_class", "kind", "failed", "worker", "volunteer", "since", "until", "metric_above",
       "metric_below")  # fmt: skip
"""Filters that a run itself answers, and not its experiment."""

_CONDITIONS: Mapping[str, Condition] = {
    **CONDITIONS,
    "project_id": lambda value: Run.project_id == value,
    "hardware_class": lambda value: Run.hardware_class == value,
    "kind": lambda value: Run.kind == value,
    "failed": lambda value: (Run.outcome != RunOutcome.OK) if value else (Run.outcome == RunOutcome.OK),
    "worker": is_worker,
    "since": lambda value: Run.finished_at >= value,
    "until": lambda value: Run.finished_at < value,
    "metric_above": lambda value: Run.metric >= value,
    "metric_below": lambda value: Run.metric <= value,
}
Numbers = Annotated[Sequence[Annotated[int, Query(ge=1, le=2**31 - 1)]], Query(max_length=200)]


class RunQuery(FilterQuery):
    """The filters and the order of a list of runs, as they stand in addresses."""

    hardware_class: Annotated[str | None, Query(max_length=200, description="only runs in this hardware class")] = None
    failed: Annotated[bool | None, Query(description="whether the run failed")] = None
    outcome: Annotated[RunOutcome | None, Query(description="only runs that ended so")] = None
    experiment: Annotated[Numbers, Query(description="only runs of these experiments; may be repeated")] = ()
    metric_above: Annotated[Number | None, Query(description="the run's own metric, at least")] = None
    metric_below: Annotated[Number | None, Query(description="likewise, at most")] = None
    sort: Annotated[RunSort, Query(description="`done`: by the moment when the run ended")] = RunSort.NEWEST
    ascending: Annotated[bool, Query(description="oldest first")] = False


class RunsAsked(NamedTuple):
    """A page of a list of runs, as it is asked for."""

    query: RunQuery
    cursor: str | None
    limit: int


def view_page(session: Session, project: Project, asked: RunsAsked) -> Page[RunView]:
    """Runs with their reports, newest first unless another order is asked for. Raises CursorInvalidError."""
    ids, following = _list_ids(session, project, asked)
    found = {run.id: (run, worker) for run, worker in list_runs_by_id(session, ids)}
    items = [evidence.view_run(*found[run_id], project.name) for run_id in ids]
    return Page(items=items, next_cursor=following)


def view_curves(session: Session, project: Project, asked: RunsAsked, points: int) -> Page[RunCurve]:
    """The curves of runs, each thinned to so many points. Raises CursorInvalidError."""
    ids, following = _list_ids(session, project, asked)
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


def _list_ids(session: Session, project: Project, asked: RunsAsked) -> tuple[list[int], str | None]:
    query = asked.query
    filters = query.to_filters(project_id=project.id)
    is_dated = query.sort is RunSort.DONE or filters.since is not None or filters.until is not None
    after = decode_position(asked.cursor, datetime if is_dated else None) if asked.cursor is not None else None
    others: dict[str, Any] = dict.fromkeys(OWN)
    of_experiments = filters._replace(**others) if filters.given.keys() - set(OWN) else None
    few = find_few(session, of_experiments._replace(project_id=project.id)) if of_experiments else None
    chosen = set(query.experiment) if few is None else set(few) & set(query.experiment or few)
    fits = [_CONDITIONS[name](value) for name, value in filters.given.items()]
    fits += [Run.outcome == query.outcome] if query.outcome else []
    keys = select(Run.id, Run.finished_at if is_dated else null()).where(Run.project_id == project.id)
    if few is not None or query.experiment:
        keys = keys.where(Run.experiment_id.in_(chosen))
    elif filters.hardware_class is not None and not is_dated:
        keys = keys.where(Run.hardware_class == filters.hardware_class)
    if is_dated:
        keys = keys.where(
            *(_CONDITIONS[name](filters.given[name]) for name in ("since", "until") if name in filters.given)
        )

    def list_keys(place: Position | None) -> Select[*tuple[Any, ...]]:
        return _arrange(keys, place, is_dated=is_dated, ascending=query.ascending)

    found, end = walk(session, Run.id, list_keys, _join(filters).where(*fits), after, asked.limit)
    return found, encode_position(end) if end else None


def _arrange(
    query: Select[*tuple[Any, ...]], after: Position | None, *, is_dated: bool, ascending: bool
) -> Select[*tuple[Any, ...]]:
    """Runs by number, or by the moment when they ended, without those whose end is not known."""
    if not is_dated:
        query = query if after is None else query.where(Run.id > after.key if ascending else Run.id < after.key)
        return query.order_by(Run.id if ascending else Run.id.desc())
    query = query.where(Run.finished_at.is_not(None))
    if after is not None:
        place, bound = tuple_(Run.finished_at, Run.id), tuple_(literal(after.value, UtcDateTime), after.key)
        query = query.where(place > bound if ascending else place < bound)
    return query.order_by(*((Run.finished_at, Run.id) if ascending else (Run.finished_at.desc(), Run.id.desc())))


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
