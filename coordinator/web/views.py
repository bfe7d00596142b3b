"""The contents of each page, as plain values. Templates run no queries and make no decisions."""

from dataclasses import dataclass
from math import hypot
from typing import TypedDict
from urllib.parse import urlencode

from sqlalchemy.orm import Session

from coordinator.events import queries as activity_queries
from coordinator.evidence import queries as evidence_queries
from coordinator.evidence import service as evidence
from coordinator.experiments import queries as experiments_queries
from coordinator.experiments import service as experiments
from coordinator.findings import papers, search, topics
from coordinator.findings import service as findings
from coordinator.findings.queries import FindingFilters
from coordinator.http.pagination import cut_page
from coordinator.leases.views import view_context, view_live_leases
from coordinator.models import Project
from coordinator.novelty.similarity import Similarity
from coordinator.projects import queries as projects_queries
from coordinator.projects import service as projects
from coordinator.web import queries
from coordinator.web.charts import EvidenceChart, TopicChart, draw_evidence, draw_topic
from coordinator.workers import service as fleet
from shared.contract import Objective
from shared.evidence import ExperimentEvidence
from shared.experiments import Posterior, Verdict
from shared.findings import FailureClass, Finding, FindingSummary, Paper, SearchHit
from shared.leases import LeaseContext, LeaseView
from shared.progress import HardwareClassCount
from shared.projects import Project as ProjectView
from shared.protocol import Message, Page
from shared.records import ExperimentDetail, ExperimentSummary
from shared.runs import EarlyStops, Run, RunOutcome
from shared.topics import Topic, TopicSummary
from shared.workers import WorkerView

PAGE_ROWS = 50
MAX_IDLE_WORKERS = 10
VERDICTS = (Verdict.IMPROVED, Verdict.NO_CHANGE, Verdict.WORSE, Verdict.UNRESOLVED)


@dataclass(frozen=True)
class Leader:
    """The commit with the best posterior mean; `experiment_id` is None where that is the root.

    `gain_mean` and `gain_sd` are its difference from the root. The two are taken as independent; a commit's posterior
    depends on its ancestors', so the true sd is at most this one.
    """

    experiment_id: int | None
    title: str
    posterior: Posterior
    gain_mean: float | None
    gain_sd: float | None


@dataclass(frozen=True)
class LiveJob:
    """A live lease, and the experiment it starts from (None: the root)."""

    lease: LeaseView
    base_id: int | None


@dataclass(frozen=True)
class LiveState:
    """The parts of a project's page that change by the second; `idle` workers are paused or wait."""

    experiments: int
    runs: int
    leader: Leader | None
    baseline: Posterior | None
    jobs: list[LiveJob]
    early_stops: EarlyStops
    idle: list[WorkerView]


class Curve(Message):
    """A training curve, point by point: seconds since the start of the budget, step, and loss."""

    name: str
    is_parent: bool
    seconds: list[float]
    steps: list[int]
    losses: list[float]


class Curves(Message):
    """All curves of a page; the parent's comes first and is drawn behind the others."""

    curves: list[Curve]


class _Head(TypedDict):
    project: ProjectView
    objective: Objective


@dataclass(frozen=True, kw_only=True)
class ProjectPart:
    """A page that belongs to a project."""

    project: ProjectView
    objective: Objective


@dataclass(frozen=True, kw_only=True)
class ProjectPage(ProjectPart):
    """A project's page in one hardware class. `since` is the feed's cursor at the moment of these numbers."""

    projects: list[ProjectView]
    hardware_class: str | None
    hardware_classes: list[HardwareClassCount]
    live: LiveState
    experiments: Page[ExperimentSummary]
    is_first: bool
    since: int


@dataclass(frozen=True, kw_only=True)
class ExperimentPage(ProjectPart):
    """An experiment's page. `since` is as in `ProjectPage`."""

    experiment: ExperimentDetail
    evidence: ExperimentEvidence
    chart: EvidenceChart | None
    curves: Curves
    context: LeaseContext
    since: int


@dataclass(frozen=True, kw_only=True)
class RunPage(ProjectPart):
    """The page of a run of the root, which belongs to no experiment."""

    run: Run
    curves: Curves


@dataclass(frozen=True, kw_only=True)
class FindingPage(ProjectPart):
    """A finding's page; `words` are the agent's texts in the chosen version."""

    paper: Paper
    words: Finding
    curves: Curves
    diff: str


@dataclass(frozen=True, kw_only=True)
class FindingsPage(ProjectPart):
    """A project's findings: the `hits` of the search `q`, or the `newest`.

    `chosen` are the filters; `query` is the page's own query string; `verdicts` and `failures` are pairs of a filter's
    value and the address with it.
    """

    q: str
    query: str
    chosen: dict[str, str]
    verdicts: list[tuple[str, str]]
    failures: list[tuple[str, str]]
    hits: list[SearchHit]
    newest: Page[FindingSummary]


@dataclass(frozen=True, kw_only=True)
class TopicsPage(ProjectPart):
    """A project's topics."""

    topics: Page[TopicSummary]


@dataclass(frozen=True, kw_only=True)
class TopicPage(ProjectPart):
    """A topic's page."""

    topic: Topic
    chart: TopicChart | None


def _head(project: Project) -> _Head:
    return {"project": projects.view_project(project), "objective": projects.contract_of(project).objective}


def last_event_id(session: Session) -> int:
    """The feed's cursor now: a page made now shows all events up to it."""
    return activity_queries.get_last_event_id(session)


def view_projects(session: Session) -> list[ProjectView]:
    return [projects.view_project(project) for project in projects_queries.list_projects(session)]


def view_project(
    session: Session, name: str, hardware_class: str | None = None, before_id: int | None = None
) -> ProjectPage:
    """A project's page. Raises NotFoundError."""
    project = projects.get_project(session, name)
    since = activity_queries.get_last_event_id(session)
    classes = [
        HardwareClassCount(name=class_name, runs=runs)
        for class_name, runs in experiments_queries.list_hardware_classes(session, project.id)
    ]
    chosen = hardware_class or (classes[0].name if classes else None)
    rows = experiments_queries.list_experiments(session, project.id, before_id, PAGE_ROWS + 1, chosen)
    summaries = [experiments.view_summary(row, project.name) for row in rows]
    return ProjectPage(
        **_head(project),
        projects=view_projects(session),
        hardware_class=chosen,
        hardware_classes=classes,
        live=_view_live(session, project, chosen, sum(known.runs for known in classes if known.name == chosen)),
        experiments=cut_page(summaries, PAGE_ROWS, lambda summary: summary.id),
        is_first=before_id is None,
        since=since,
    )


def _view_live(session: Session, project: Project, hardware_class: str | None, runs: int) -> LiveState:
    baseline = _find_posterior(session, project.root_sha, hardware_class)
    leases = view_live_leases(session, project)
    ids = queries.list_experiment_ids(session, [lease.base_sha for lease in leases])
    return LiveState(
        experiments=experiments_queries.count_experiments(session, project.id),
        runs=runs,
        leader=_view_leader(session, project, hardware_class, baseline),
        baseline=baseline,
        jobs=[LiveJob(lease, ids.get(lease.base_sha)) for lease in leases],
        early_stops=evidence.view_early_stops(session, project),
        idle=fleet.view_resting(session, MAX_IDLE_WORKERS),
    )


def _view_leader(
    session: Session, project: Project, hardware_class: str | None, baseline: Posterior | None
) -> Leader | None:
    row = queries.find_leader(session, project.id, hardware_class) if hardware_class else None
    posterior = evidence.view_posterior(row)
    if row is None or posterior is None:
        return None
    experiment = experiments_queries.find_experiment_by_commit(session, row.commit_sha)
    is_comparable = experiment is not None and baseline is not None
    return Leader(
        experiment_id=experiment.id if experiment else None,
        title=experiment.title if experiment else "",
        posterior=posterior,
        gain_mean=posterior.metric_mean - baseline.metric_mean if is_comparable and baseline else None,
        gain_sd=hypot(posterior.metric_sd, baseline.metric_sd) if is_comparable and baseline else None,
    )


def _find_posterior(session: Session, sha: str, hardware_class: str | None) -> Posterior | None:
    if hardware_class is None:
        return None
    return evidence.view_posterior(evidence_queries.find_posterior(session, sha, hardware_class))


def view_experiment(session: Session, experiment_id: int) -> ExperimentPage:
    """An experiment's page. Raises NotFoundError."""
    since = activity_queries.get_last_event_id(session)
    detail = experiments.view_detail(session, experiment_id)
    explained = experiments.view_evidence(session, experiment_id, detail.hardware_class)
    return ExperimentPage(
        **_head(projects.get_project(session, detail.project)),
        experiment=detail,
        evidence=explained,
        chart=draw_evidence(explained),
        curves=view_curves(session, detail),
        context=view_context(session, queries.get_lease_id(session, experiment_id)),
        since=since,
    )


def view_curves(session: Session, detail: ExperimentDetail) -> Curves:
    """An experiment's training curves, its parent's first."""
    return Curves(curves=_parent_curve(session, detail) + _own_curves(detail.runs))


def _own_curves(runs: list[Run]) -> list[Curve]:
    return [_view_curve(run, f"run {run.id}, seed {run.seed}", is_parent=False) for run in runs if run.curve]


def _parent_curve(session: Session, detail: ExperimentDetail) -> list[Curve]:
    """The curve of the parent's first whole run in the experiment's hardware class, if there is one."""
    name = f"parent #{detail.parent_id}" if detail.parent_id else "parent (baseline)"
    for run, worker in evidence_queries.list_runs_of_commit(session, detail.parent_sha):
        if run.hardware_class == detail.hardware_class and run.outcome == RunOutcome.OK and run.curve:
            return [_view_curve(evidence.view_run(run, worker, detail.project), name, is_parent=True)]
    return []


def _view_curve(run: Run, name: str, *, is_parent: bool) -> Curve:
    return Curve(
        name=name,
        is_parent=is_parent,
        seconds=[point.seconds for point in run.curve],
        steps=[point.step for point in run.curve],
        losses=[point.loss for point in run.curve],
    )


def find_experiment_of_run(session: Session, run_id: int) -> int | None:
    """The experiment whose commit a run measured, None for the root's. Raises NotFoundError."""
    run = evidence.view_one(session, run_id)
    experiment = experiments_queries.find_experiment_by_commit(session, run.commit_sha)
    return experiment.id if experiment else None


def view_run(session: Session, run_id: int) -> RunPage:
    """The page of a run of the root. Raises NotFoundError."""
    run = evidence.view_one(session, run_id)
    head = _head(projects.get_project(session, run.project))
    return RunPage(**head, run=run, curves=Curves(curves=_own_curves([run])))


def view_finding(session: Session, finding_id: int, version: int | None) -> FindingPage:
    """A finding's page; the newest version by default. Raises NotFoundError."""
    paper = papers.view_paper(session, finding_id)
    experiment = experiments.view_detail(session, paper.summary.experiment_id)
    return FindingPage(
        **_head(projects.get_project(session, paper.summary.project)),
        paper=paper,
        words=paper.words if version is None else papers.view_words(session, finding_id, version),
        curves=view_curves(session, experiment),
        diff=experiment.diff,
    )


def view_findings(
    session: Session, similarity: Similarity, project_name: str, q: str, chosen: dict[str, str],
    filters: FindingFilters, before_id: int | None,
) -> FindingsPage:  # fmt: skip
    """A project's findings. `chosen` are the filters as they stand in the address. Raises NotFoundError."""
    asked = {"project": project_name, **chosen, **({"q": q} if q else {})}
    return FindingsPage(
        **_head(projects.get_project(session, project_name)),
        q=q,
        query=urlencode(asked),
        chosen=chosen,
        verdicts=[(verdict, _filter_address(asked, "verdict", verdict)) for verdict in ("", *VERDICTS)],
        failures=[(failure, _filter_address(asked, "failure", failure)) for failure in ("", *FailureClass)],
        hits=search.search(session, similarity, q, filters, PAGE_ROWS) if q else [],
        newest=Page(items=[]) if q else findings.view_page(session, filters, before_id, PAGE_ROWS),
    )


def _filter_address(asked: dict[str, str], name: str, value: str) -> str:
    others = {known: given for known, given in asked.items() if known != name}
    return f"/findings?{urlencode(others | ({name: value} if value else {}))}"


def view_topics(session: Session, name: str, before_id: int | None) -> TopicsPage:
    """A project's topics. Raises NotFoundError."""
    project = projects.get_project(session, name)
    return TopicsPage(**_head(project), topics=topics.view_page(session, project, before_id, PAGE_ROWS))


def view_topic(session: Session, name: str, slug: str) -> TopicPage:
    """A topic's page. Raises NotFoundError."""
    project = projects.get_project(session, name)
    head, topic = _head(project), topics.view_topic(session, project, slug)
    return TopicPage(**head, topic=topic, chart=draw_topic(topic, head["objective"].sign))
