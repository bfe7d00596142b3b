"""The front page and the page of a project: their contents, and the parts that change while one looks."""

import json
from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from coordinator.db.cache import TimedCache
from coordinator.events.queries import get_page_cursor
from coordinator.evidence import service as evidence
from coordinator.evidence.posteriors import find_posterior
from coordinator.evidence.run_stats import list_hardware_classes, view_early_stops
from coordinator.experiments import service as experiments
from coordinator.experiments.filters import Filters
from coordinator.http.pagination import encode_cursor
from coordinator.leases.queries import LeaseFilters
from coordinator.leases.service import LeaseOrder, count_live_by_phase, view_live_leases
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.projects.lookup import list_projects
from coordinator.projects.settings import settings_of
from coordinator.records import progress, progress_queries
from coordinator.records import queries as records_queries
from coordinator.records import service as records
from coordinator.selection.findings_value import compare_arms
from coordinator.web.pictures import Plot, draw, make_plot, pack
from coordinator.web.rendering import render_part
from coordinator.workers import queries as workers
from shared.leases import Phase
from shared.projects import FindingsValue, ProjectMode
from shared.runs import EarlyStops
from shared.workers import WorkerState

PAGE_ROWS = 25
MAX_JOBS = 6
"""Number of jobs that a project's page names; it counts the others."""

MAX_RESTING = 3
MAX_FRONT_PROJECTS = 20
"""Number of projects that the front page draws; it names the others."""

MILESTONES = 8
STRIP_STEPS = 8
"""Number of steps of the leader's line of descent that a project's page shows."""

FRONT_TICKS = 4
VALUE_SECONDS = 60.0
"""Longest age of what is read of thousands of jobs or runs, and changes slowly."""

MAX_CACHED_VALUES = 256
_findings_values = TimedCache[int, FindingsValue](MAX_CACHED_VALUES)
_early_stops = TimedCache[int, EarlyStops](MAX_CACHED_VALUES)
Context = dict[str, Any]
"""The values that a template gets as `page`."""


class Chosen(NamedTuple):
    """A project, the hardware class that its page is about (None before the first run), and runs of the range shown."""

    project: Project
    hardware_class: str | None
    first: int = 1
    last: int | None = None


class Parts(NamedTuple):
    """The parts of a project's page that change, as HTML by the id of their element, rows by experiment, and the plot.

    `state` is made from all of it, so equal pages have equal states.
    """

    state: str
    regions: Mapping[str, str]
    rows: Mapping[str, str]
    plot: Plot


def choose(session: Session, name: str, hardware_class: str | None) -> Chosen:
    """The class with the most runs, if none is asked for. Raises NotFoundError."""
    project = projects.get_project(session, name)
    if hardware_class is None:
        hardware_class = next((one.name for one in list_hardware_classes(session, project.id)), None)
    return Chosen(project, hardware_class)


def view_plot(session: Session, chosen: Chosen) -> Plot:
    """The plot of a range of a class's runs, as scripts get it."""
    return pack(_make_plot(session, chosen, _read_history(session, chosen)))


def _read_history(session: Session, chosen: Chosen) -> progress.ClassHistory:
    if chosen.hardware_class is None:
        return progress.ClassHistory(0, 1, [], None)
    return progress.read_history(session, progress.scope_of(chosen.project, chosen.hardware_class))


def _make_plot(session: Session, chosen: Chosen, history: progress.ClassHistory) -> Plot:
    part = progress.Range(1, [], 1, [], [])
    if chosen.hardware_class is not None:
        scope = progress.scope_of(chosen.project, chosen.hardware_class)
        part = progress.read_range(session, scope, history, chosen.first, chosen.last or history.runs)
    return make_plot(chosen.project, history, part)


def view_page(session: Session, chosen: Chosen, before_id: int | None) -> tuple[Context, Parts]:
    """A project's page with its whole history, and its parts that change."""
    history = _read_history(session, chosen)
    parts, live = _render_parts(session, chosen, before_id, history)
    project = chosen.project
    context = live | {
        "projects": [projects.view_project(one) for one in list_projects(session)],
        "hardware_classes": list_hardware_classes(session, project.id),
        "findings_value": _findings_values.read(
            session, project.id, VALUE_SECONDS, lambda: compare_arms(session, project)
        ),
        "disputed_noise": list(evidence.list_disputed_noise(session, project.id)),
        "picture": draw(parts.plot),
        "plot": pack(parts.plot),
        "parts": parts,
        "first": 1,
        "last": None,
    }
    return context, parts


def view_range(session: Session, chosen: Chosen) -> Context:
    """The part of a project's page that differs where it shows a range of the runs."""
    plot = _make_plot(session, chosen, _read_history(session, chosen))
    return {"picture": draw(plot), "plot": pack(plot), "first": chosen.first, "last": chosen.last}


def read_parts(session: Session, chosen: Chosen) -> Parts:
    """The parts of a project's page that change, on its first page of experiments."""
    return _render_parts(session, chosen, None, _read_history(session, chosen))[0]


def _render_parts(
    session: Session, chosen: Chosen, before_id: int | None, history: progress.ClassHistory
) -> tuple[Parts, Context]:
    """The parts that change, and what they were made from. The plot is of the whole history."""
    project, hardware_class = chosen.project, chosen.hardware_class
    plot = _make_plot(session, Chosen(project, hardware_class), history)
    newest = experiments.ListRequest(Filters(hardware_class=hardware_class))
    cursor = encode_cursor(before_id) if before_id is not None else None
    page = experiments.view_page(session, project, newest, cursor, PAGE_ROWS)
    context = {
        "project": projects.view_project(project),
        "objective": projects.contract_of(project).objective,
        "hardware_class": hardware_class,
        "experiments": page,
        "is_first": before_id is None,
        "live": _view_live(session, chosen, history),
    }
    regions = {
        name: render_part(f"projects/_{name}.html", page=context) for name in ("summary", "now", "lineage", "pages")
    }
    rows = {str(one.id): render_part("projects/_row.html", experiment=one) for one in page.items}
    return make_parts(regions, rows, plot), context


def make_parts(regions: Mapping[str, str], rows: Mapping[str, str], plot: Plot) -> Parts:
    state = sha256(json.dumps([regions, rows, plot]).encode()).hexdigest()[:20]
    return Parts(state, regions, rows, plot)


def find_changes(old: Parts | None, new: Parts) -> dict[str, Any]:
    """The parts of `new` that a page has to change that shows `old`; all of them if that is not known."""
    changes: dict[str, Any] = {"state": new.state}
    regions = {name: html for name, html in new.regions.items() if old is None or old.regions.get(name) != html}
    if regions:
        changes["regions"] = regions
    if old is None or old.rows != new.rows:
        changed = {key: html for key, html in new.rows.items() if old is None or old.rows.get(key) != html}
        changes["rows"] = {"keys": list(new.rows), "changed": changed}
    if old is None or old.plot != new.plot:
        changes["plot"] = _cut_plot(old.plot if old else None, new.plot)
    return changes


def _cut_plot(old: Plot | None, new: Plot) -> Plot:
    """The marks from the first that differs on; `skipped` is the number of those before it."""
    columns = [name for name, value in new.items() if isinstance(value, list | str) and name != "hardware_class"]
    kept = 0
    if old is not None and all(old[name] == new[name] for name in ("width", "first")):
        for name in columns:
            equal = _count_equal(old[name], new[name])
            kept = min(kept, equal) if name != columns[0] else equal
    return pack(new | {name: new[name][kept:] for name in columns}) | {"skipped": kept}


def _count_equal(old: Any, new: Any) -> int:
    """Length of the common beginning; of empty columns as if it were endless."""
    if not old and not new:
        return 2**31
    return next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))


def _view_live(session: Session, chosen: Chosen, history: progress.ClassHistory) -> Context:
    project, hardware_class = chosen.project, chosen.hardware_class
    baseline = record = no_record = None
    if hardware_class is not None:
        baseline = evidence.view_posterior(find_posterior(session, project.root_sha, hardware_class))
        record = records.find_record(session, project, hardware_class, baseline)
        no_record = None if record else records.explain_missing(session, project, hardware_class)
    leader = history.leader
    leases = view_live_leases(session, project, LeaseFilters(), LeaseOrder.ISSUED, MAX_JOBS, ascending=False)[::-1]
    shas = [lease.base_sha for lease in leases] + ([leader.commit_sha] if leader else [])
    titles = records_queries.find_titles(session, shas)
    return {
        "experiments": progress.count_experiments(session, project.id),
        "runs": history.runs,
        "leader": records.view_commit(session, project, leader, titles),
        "baseline": baseline,
        "record": record,
        "no_record": no_record,
        "descent": _view_descent(session, leader.commit_sha, hardware_class) if leader and hardware_class else None,
        "jobs": [{"lease": lease, "base_id": titles.get(lease.base_sha, (None,))[0]} for lease in leases],
        "early_stops": _early_stops.read(
            session, project.id, VALUE_SECONDS, lambda: view_early_stops(session, project)
        ),
    } | view_now(session, project.id)


def view_now(session: Session, project_id: int | None) -> Context:
    """The work under way, counted by phase, and workers that rest, which are not of one project."""
    phases = count_live_by_phase(session, project_id)
    idle = workers.view_resting(session)
    resting = Counter(worker.state for worker in idle)
    return {
        "phases": [(phase, phases[phase]) for phase in Phase if phases.get(phase)],
        "working": sum(phases.values()),
        "resting": [(state, resting[state]) for state in WorkerState if resting[state]],
        "idle": idle[:MAX_RESTING],
    }


def _view_descent(session: Session, sha: str, hardware_class: str) -> Context:
    """The end of the leader's line of descent, oldest first, and how many steps lie before it."""
    page = records.view_lineage(session, sha, hardware_class, None, STRIP_STEPS)
    steps = page.items[::-1]
    return {"steps": steps, "before": steps[0].depth}


def view_front(session: Session) -> tuple[Context, Parts]:
    """The front page, and its parts that change: each project's record and leader in its main class, machines, and
    milestones."""
    since = get_page_cursor(session)  # before all else that is read: what comes later is still to be told
    known = sorted(list_projects(session), key=lambda one: settings_of(one).mode == ProjectMode.ARCHIVED)
    current = sum(settings_of(one).mode != ProjectMode.ARCHIVED for one in known)
    shown = min(MAX_FRONT_PROJECTS, current or len(known))
    drawn = [_view_front_project(session, project) for project in known[:shown]]
    context = {
        "since": since,
        "drawn": drawn,
        "named": [projects.view_project(project) for project in known[shown:]],
        "now": view_now(session, None),
        "machines": workers.count_recent(session),
        "milestones": progress_queries.list_milestones(session, MILESTONES),
    }
    names = ("machines", "projects", "milestones")
    return context, make_parts({name: render_part(f"front/_{name}.html", front=context) for name in names}, {}, {})


def _view_front_project(session: Session, project: Project) -> Context:
    classes = list_hardware_classes(session, project.id)
    chosen = Chosen(project, classes[0].name if classes else None)
    plot = _make_plot(session, chosen, _read_history(session, chosen))
    return {
        "project": projects.view_project(project),
        "objective": projects.contract_of(project).objective,
        "hardware_class": chosen.hardware_class,
        "classes": len(classes),
        "runs": classes[0].runs if classes else 0,
        "experiments": sum(one.experiments for one in classes),
        "best": records.view_record(session, project, classes[0].name, classes[0].runs) if classes else None,
        "picture": draw(plot, ticks=FRONT_TICKS),
    }
