"""Progress of a project in a hardware class: all its history in at most MAX_BINS bins of runs, and who leads.

A background task keeps counts and bins as runs come, and notes who came to lead; the transaction that stores a result
writes nothing for it. A reader adds the runs beyond what is kept, so pages are never behind. Runs of a class are stored
one after the other (`epochs.begin_run`), so the highest id that was counted says what is still to be counted.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.db.locks import AdvisoryLock, lock_until_commit
from coordinator.events import service as events
from coordinator.evidence import service as evidence
from coordinator.evidence.run_stats import list_hardware_classes
from coordinator.findings import topic_counts
from coordinator.models import CommitPosterior, Project, view_of
from coordinator.projects import service as projects
from coordinator.projects.lookup import list_projects
from coordinator.records import bins, contributions, queries
from coordinator.records import progress_queries as kept_queries
from coordinator.records.bins import Bin
from coordinator.records.progress_queries import Mark, ProgressCounts, Scope
from shared.events import EventKind
from shared.protocol import now
from shared.records import ProgressBin, ProgressPoint, ProjectProgress

MAX_READ_RUNS = 20_000
"""Largest number of runs that a picture of a range is made from; longer ranges are made from the class's bins."""

RECOUNTED_AFTER = timedelta(minutes=1)
"""Age from which the verdicts of a topic are counted again, while runs come."""


class ClassHistory(NamedTuple):
    """A class's runs in bins of `width`, and the commit that leads it now."""

    runs: int
    width: int
    bins: list[Bin]
    leader: CommitPosterior | None


def scope_of(project: Project, hardware_class: str) -> Scope:
    return Scope(project.id, hardware_class, projects.contract_of(project).objective.sign)


def read_history(session: Session, scope: Scope) -> ClassHistory:
    """All of a class's history, its newest runs included."""
    leader = queries.find_best(session, scope.project_id, scope.hardware_class, verified=False)
    kept = kept_queries.find_kept(session, scope)
    whole = _bring_forward(session, scope, kept)
    return ClassHistory(whole.runs, whole.width, _bins_of(session, scope, kept, whole, leader), leader)


def _bring_forward(session: Session, scope: Scope, kept: ProgressCounts) -> ProgressCounts:
    """The counts after the runs that came since."""
    runs, experiments, newest = kept_queries.count_beyond(session, scope, kept.through_run_id)
    total, through = kept.runs + runs, max(kept.through_run_id, newest)
    return ProgressCounts(total, kept.experiments + experiments, through, bins.choose_width(total))


def _bins_of(
    session: Session, scope: Scope, kept: ProgressCounts, whole: ProgressCounts, leader: CommitPosterior | None
) -> list[Bin]:
    """The stored bins together with those of the runs beyond."""
    stored = kept_queries.list_bins(session, scope) if kept.runs else []
    before = stored[-1].leading if stored else None
    widened = bins.widen(stored, whole.width // kept.width, scope.sign)
    beyond = kept.through_run_id, whole.through_run_id, kept.runs, whole.width
    new = kept_queries.make_bins(session, scope, *beyond) if whole.runs > kept.runs else []
    joined = bins.add(widened, new, scope.sign)
    changed = len(joined) - len(new) if new else max(0, len(joined) - 1)
    return bins.set_leading(joined, changed, before, leader.metric_mean if leader else None, scope.sign)


def follow_runs(database: Database) -> None:
    """Bring counts, bins and leaders of all classes up to date, each in a short transaction of its own."""
    with database.read() as session:
        behind = kept_queries.list_behind(session)
    for project_id, hardware_class in behind:
        with database.write() as session:
            lock_until_commit(session, AdvisoryLock.PROGRESS)
            advance(session, scope_of(session.get_one(Project, project_id), hardware_class))
    if behind:
        with database.write() as session:
            topic_counts.recount_oldest(session, now() - RECOUNTED_AFTER)


def advance(session: Session, scope: Scope) -> None:
    """Bring what is kept of a class up to date."""
    kept = kept_queries.find_kept(session, scope)
    base = ProgressCounts() if kept.is_stale else kept
    leader = queries.find_best(session, scope.project_id, scope.hardware_class, verified=False)
    whole = _bring_forward(session, scope, base)
    if whole.runs > base.runs:
        made = _bins_of(session, scope, base, whole, leader)
        is_widened = kept.is_stale or whole.width != kept.width
        from_number = 0 if is_widened else kept.runs // kept.width
        kept_queries.store_bins(session, scope, made, from_number=from_number)
        kept_queries.store_kept(session, scope, whole)
        contributions.count_new(session, *scope[:2], base.through_run_id, whole.through_run_id)
        topic_counts.count_new(session, *scope[:2], kept.through_run_id, whole.through_run_id)
    record = queries.find_best(session, scope.project_id, scope.hardware_class, verified=True)
    for best, is_record in ((leader, False), (record, True)):
        if best is not None and best.commit_sha != kept_queries.find_leader_sha(session, scope, is_record=is_record):
            kept_queries.add_leader(session, scope, best, is_record=is_record, run_number=whole.runs, moment=now())
            if is_record and best.commit_sha != session.get_one(Project, scope.project_id).root_sha:
                _record_event(session, scope, best)


def _record_event(session: Session, scope: Scope, record: CommitPosterior) -> None:
    numbers = {"metric": record.metric_mean, "metric_sd": record.metric_sd}
    place = {"commit": record.commit_sha, "hardware_class": scope.hardware_class}
    events.record(session, EventKind.RECORD_SET, scope.project_id, **place, **numbers)


def rebuild(session: Session) -> int:
    """Make all counts and bins again from the runs; returns the number of classes."""
    kept_queries.forget_all(session)
    behind = kept_queries.list_behind(session)
    for project_id, hardware_class in behind:
        advance(session, scope_of(session.get_one(Project, project_id), hardware_class))
    return len(behind)


def find_differences(session: Session) -> Iterator[str]:
    """Counts and bins that the runs do not give, each in a line."""
    for project_id, hardware_class in kept_queries.list_classes(session):
        project = session.get_one(Project, project_id)
        scope = scope_of(project, hardware_class)
        kept = kept_queries.find_kept(session, scope)
        if kept.is_stale:
            continue  # it is known, and will be mended by the coordinator's task
        runs, experiments, _ = kept_queries.count_beyond(session, scope, 0)
        runs_beyond, experiments_beyond, _ = kept_queries.count_beyond(session, scope, kept.through_run_id)
        name = f"progress of {project.name} on {hardware_class}"
        counted = (runs - runs_beyond, experiments - experiments_beyond)
        if counted != (kept.runs, kept.experiments):
            yield f"{name}: {kept.runs} runs and {kept.experiments} experiments are counted, there are {counted}"
            continue
        stored = kept_queries.list_bins(session, scope)
        made = kept_queries.make_bins(session, scope, 0, kept.through_run_id, 0, kept.width)
        if [one._replace(leading=None) for one in stored] != [one._replace(leading=None) for one in made]:
            yield f"{name}: its bins are not what its runs give"
    yield from contributions.find_differences(session)
    for project in list_projects(session):
        yield from topic_counts.find_differences(session, project.id, project.name)


class Range(NamedTuple):
    """Part of a class's history: bins of `width` runs, or its runs one by one as `marks` from the number `first` on.

    `leading` is the leader's metric at the end of each bin, or at each mark.
    """

    width: int
    bins: list[Bin]
    first: int
    marks: list[Mark]
    leading: list[float | None]


def read_range(session: Session, scope: Scope, history: ClassHistory, first: int, last: int) -> Range:
    """The runs `first` to `last` (numbered from 1) in bins that are as narrow as MAX_BINS of them allow."""
    width = history.width
    within = _cut(history.bins, width, first, last)
    if not within:
        return Range(1, [], 1, [], [])
    leading = {one.number: one.leading for one in within}
    begin, runs = within[0].number * width, sum(one.runs for one in within)
    first_id, last_id = within[0].first_run_id, within[-1].last_run_id
    narrow = bins.choose_width(min(runs, last - first + 1))
    if narrow == 1:
        start = max(first, begin + 1)
        marks = kept_queries.list_marks(session, scope, first_id, last_id)[start - begin - 1 : last - begin]
        return Range(1, [], start, marks, [leading.get((start - 1 + n) // width) for n in range(len(marks))])
    if narrow < width and runs <= MAX_READ_RUNS:
        made = kept_queries.make_bins(session, scope, first_id - 1, last_id, begin, narrow)
        within = [
            one._replace(leading=leading.get(one.number * narrow // width)) for one in _cut(made, narrow, first, last)
        ]
        width = narrow
    return Range(width, within, within[0].number * width + 1, [], [one.leading for one in within])


def _cut(given: Iterable[Bin], width: int, first: int, last: int) -> list[Bin]:
    return [one for one in given if one.number * width < last and (one.number + 1) * width >= first]


def view_progress(
    session: Session, project: Project, hardware_class: str | None, first: int = 1, last: int | None = None
) -> ProjectProgress:
    """A project's progress in a hardware class; without one, in the class with the most runs.

    It covers the runs `first` to `last`; `points` are those runs one by one, where they are at most MAX_BINS.
    """
    objective = projects.contract_of(project).objective
    classes = list_hardware_classes(session, project.id)
    chosen = hardware_class or (classes[0].name if classes else None)
    scope = Scope(project.id, chosen or "", objective.sign)
    history = read_history(session, scope) if chosen else ClassHistory(0, 1, [], None)
    part = read_range(session, scope, history, first, last or history.runs)
    titles = queries.find_titles(session, [history.leader.commit_sha] if history.leader else [])
    return ProjectProgress(
        project=project.name,
        metric=objective.metric,
        unit=objective.unit,
        direction=objective.direction,
        hardware_class=chosen,
        hardware_classes=classes,
        experiments=count_experiments(session, project.id),
        runs=history.runs,
        width=part.width,
        bins=[view_of(ProgressBin, one, first=one.number * part.width + 1) for one in part.bins],
        points=list(_view_points(session, scope, part)),
        leader_sha=history.leader.commit_sha if history.leader else None,
        leader_id=titles.get(history.leader.commit_sha, (None,))[0] if history.leader else None,
    )


def _view_points(session: Session, scope: Scope, part: Range) -> Iterator[ProgressPoint]:
    if not part.marks:
        return
    rows = kept_queries.list_runs(session, scope, part.marks[0].run_id, part.marks[-1].run_id)
    for number, (row, leading) in enumerate(zip(rows, part.leading, strict=True), part.first):
        yield view_of(
            ProgressPoint,
            row,
            number=number,
            sha=row.commit_sha,
            title=row.title or queries.ROOT_TITLE,
            posterior=evidence.view_posterior(row.CommitPosterior),
            leading=leading,
        )


def count_experiments(session: Session, project_id: int) -> int:
    """Of all hardware classes."""
    return sum(row.experiments for row in list_hardware_classes(session, project_id))
