"""The contents of each page, as plain values. Templates run no queries and make no decisions."""

from itertools import islice
from typing import Any
from urllib.parse import urlencode

from sqlalchemy.orm import Session

from coordinator.events import queries as events_queries
from coordinator.evidence import service as evidence
from coordinator.evidence.posteriors import find_posterior
from coordinator.evidence.run_stats import list_hardware_classes, list_runs_of_commit, view_early_stops
from coordinator.experiments import service as experiments
from coordinator.experiments.lookup import find_experiment_by_commit
from coordinator.findings import papers, search, topics
from coordinator.findings import service as findings
from coordinator.findings.paper_queries import count_gains
from coordinator.findings.queries import FindingFilters
from coordinator.leases.service import view_context, view_live_leases
from coordinator.models import Experiment, Project
from coordinator.novelty.similarity import Similarity
from coordinator.projects import service as projects
from coordinator.projects.lookup import list_projects
from coordinator.records import queries as records_queries
from coordinator.records import service as records
from coordinator.records.progress import count_experiments
from coordinator.selection.findings_value import compare_arms
from coordinator.web.charts import draw_evidence, draw_topic
from coordinator.workers import service as workers
from shared.experiments import Verdict
from shared.findings import FailureClass
from shared.projects import ProjectView
from shared.protocol import Page
from shared.records import ExperimentDetail
from shared.runs import RunOutcome, RunView

PAGE_ROWS = 50
MAX_IDLE_WORKERS = 10
VERDICTS = (Verdict.IMPROVED, Verdict.NO_CHANGE, Verdict.WORSE, Verdict.UNRESOLVED)

Context = dict[str, Any]
"""The values that a template gets as `page`."""

Curve = dict[str, Any]
"""A training curve for the page's script: seconds since the start of the budget, steps and losses, point by point."""


def _start_context(project: Project) -> Context:
    """The values of every page that belongs to a project."""
    return {"project": projects.view_project(project), "objective": projects.contract_of(project).objective}


def view_projects(session: Session) -> list[ProjectView]:
    return [projects.view_project(project) for project in list_projects(session)]


def view_project(
    session: Session, name: str, hardware_class: str | None = None, before_id: int | None = None
) -> Context:
    """A project's page in one hardware class. `since` is the feed's cursor at that moment. Raises NotFoundError."""
    project = projects.get_project(session, name)
    since = events_queries.get_page_cursor(session)
    classes = list_hardware_classes(session, project.id)
    chosen = hardware_class or (classes[0].name if classes else None)
    return _start_context(project) | {
        "projects": view_projects(session),
        "hardware_class": chosen,
        "hardware_classes": classes,
        "live": _view_live(session, project, chosen, sum(known.runs for known in classes if known.name == chosen)),
        "experiments": experiments.view_page(session, project, before_id, PAGE_ROWS, chosen),
        "is_first": before_id is None,
        "findings_value": compare_arms(session, project),
        "since": since,
        "disputed_noise": list(evidence.list_disputed_noise(session, project.id)),
    }


def _view_live(session: Session, project: Project, hardware_class: str | None, runs: int) -> Context:
    """The parts of a project's page that change by the second. A job's `base_id` is None for the root."""
    baseline = leader = record = None
    if hardware_class is not None:
        baseline = evidence.view_posterior(find_posterior(session, project.root_sha, hardware_class))
        leader = records_queries.find_best(session, project.id, hardware_class, verified=False)
        record = records.find_record(session, project, hardware_class, baseline)
    leases = view_live_leases(session, project)
    shas = [lease.base_sha for lease in leases] + ([leader.commit_sha] if leader else [])
    titles = records_queries.find_titles(session, shas)
    return {
        "experiments": count_experiments(session, project.id),
        "runs": runs,
        "leader": records.view_commit(leader, titles, baseline),
        "baseline": baseline,
        "record": record,
        "jobs": [{"lease": lease, "base_id": titles.get(lease.base_sha, (None,))[0]} for lease in leases],
        "early_stops": view_early_stops(session, project),
        "idle": workers.view_resting(session, MAX_IDLE_WORKERS),
    }


def view_experiment(session: Session, experiment_id: int) -> Context:
    """An experiment's page. `since` is the feed's cursor at the moment of these numbers. Raises NotFoundError."""
    since = events_queries.get_page_cursor(session)
    detail = experiments.view_detail(session, experiment_id)
    explained = experiments.view_evidence(session, experiment_id, detail.hardware_class)
    return _start_context(projects.get_project(session, detail.project)) | {
        "experiment": detail,
        "evidence": explained,
        "chart": draw_evidence(explained),
        "curves": view_curves(session, detail),
        "context": view_context(session, session.get_one(Experiment, experiment_id).lease_id),
        "since": since,
    }


def view_curves(session: Session, detail: ExperimentDetail) -> list[Curve]:
    """An experiment's training curves. The first is that of its parent's first whole run in its hardware class."""
    name = f"parent #{detail.parent_id}" if detail.parent_id else "parent (baseline)"
    parents = (
        _view_curve(evidence.view_run(run, worker, detail.project), name, is_parent=True)
        for run, worker in list_runs_of_commit(session, detail.parent_sha)
        if run.hardware_class == detail.hardware_class and run.outcome == RunOutcome.OK and run.curve
    )
    return [*islice(parents, 1), *_own_curves(detail.runs)]


def _own_curves(runs: list[RunView]) -> list[Curve]:
    return [_view_curve(run, f"run {run.id}, seed {run.seed}", is_parent=False) for run in runs if run.curve]


def _view_curve(run: RunView, name: str, *, is_parent: bool) -> Curve:
    return {
        "name": name,
        "is_parent": is_parent,
        "seconds": [point.seconds for point in run.curve],
        "steps": [point.step for point in run.curve],
        "losses": [point.loss for point in run.curve],
    }


def view_run(session: Session, run_id: int) -> Context:
    """A run's page. `experiment_id` is None for a run of the root. Raises NotFoundError."""
    run = evidence.view_one(session, run_id)
    experiment = find_experiment_by_commit(session, run.commit_sha)
    return _start_context(projects.get_project(session, run.project)) | {
        "run": run,
        "curves": _own_curves([run]),
        "experiment_id": experiment.id if experiment else None,
    }


def view_finding(session: Session, finding_id: int, version: int | None) -> Context:
    """A finding's page; the newest version by default. Raises NotFoundError."""
    paper = papers.view_paper(session, finding_id)
    experiment = experiments.view_detail(session, paper.summary.experiment_id)
    return _start_context(projects.get_project(session, paper.summary.project)) | {
        "paper": paper,
        "words": paper.words if version is None else papers.view_words(session, finding_id, version),
        "curves": view_curves(session, experiment),
        "diff": experiment.diff,
    }


def view_findings(
    session: Session, similarity: Similarity, project_name: str | None, q: str, chosen: dict[str, str],
    filters: FindingFilters, before_id: int | None,
) -> Context:  # fmt: skip
    """Findings of a project or of all: the `hits` of the search `q`, or the `newest`. Raises NotFoundError.

    `chosen` are the filters of the address; `verdicts` and `failures` pair each value of a filter with its address.
    """
    asked = {**({"project": project_name} if project_name else {}), **chosen, **({"q": q} if q else {})}
    found = search.view_page(session, similarity, q, filters, PAGE_ROWS) if q else None
    project = projects.get_project(session, project_name) if project_name else None
    return (_start_context(project) if project else {"project": None}) | {
        "q": q,
        "gains": count_gains(session, project.id) if project else None,
        "query": urlencode(asked),
        "chosen": chosen,
        "verdicts": [(verdict, _filter_address(asked, "verdict", verdict)) for verdict in ("", *VERDICTS)],
        "failures": [(failure, _filter_address(asked, "failure", failure)) for failure in ("", *FailureClass)],
        "hits": found.items if found else [],
        "meaning_used": found is None or found.meaning_used,
        "waiting_for_vectors": found.waiting_for_vectors if found else 0,
        "newest": Page(items=[]) if q else findings.view_page(session, filters, before_id, PAGE_ROWS),
    }


def _filter_address(asked: dict[str, str], name: str, value: str) -> str:
    others = {known: given for known, given in asked.items() if known != name}
    return f"/findings?{urlencode(others | ({name: value} if value else {}))}"


def view_topics(session: Session, name: str, before_id: int | None) -> Context:
    """A project's topics. Raises NotFoundError."""
    project = projects.get_project(session, name)
    return _start_context(project) | {"topics": topics.view_page(session, project, before_id, PAGE_ROWS)}


def view_topic(session: Session, name: str, slug: str) -> Context:
    """A topic's page. Raises NotFoundError."""
    project = projects.get_project(session, name)
    context, topic = _start_context(project), topics.view_topic(session, project, slug)
    return context | {"topic": topic, "chart": draw_topic(topic, context["objective"].sign)}
