"""What each page shows, gathered before its template sees it. Templates ask nothing and decide nothing."""

from dataclasses import dataclass
from math import hypot

from sqlalchemy.orm import Session

from coordinator.events import queries as activity_queries
from coordinator.evidence import queries as evidence_queries
from coordinator.evidence import service as evidence
from coordinator.experiments import queries as experiments_queries
from coordinator.experiments import service as experiments
from coordinator.http.pagination import cut_page
from coordinator.leases.views import view_context, view_live_leases
from coordinator.models import Project
from coordinator.projects import queries as projects_queries
from coordinator.projects import service as projects
from coordinator.web import queries
from coordinator.web.charts import Picture, draw_evidence
from coordinator.workers import service as fleet
from shared.contract import Objective
from shared.evidence import ExperimentEvidence
from shared.experiments import Posterior
from shared.leases import LeaseContext, LeaseView
from shared.progress import HardwareClassCount
from shared.projects import Project as ProjectView
from shared.protocol import Message, Page
from shared.records import ExperimentDetail, ExperimentSummary
from shared.runs import EarlyStops, Run, RunOutcome
from shared.workers import WorkerView

PAGE_ROWS = 50
RESTING_ROWS = 10


@dataclass(frozen=True)
class Leader:
    """The commit that leads; `experiment_id` is None while the root does.

    `gain_mean` and `gain_sd` are its difference to the root. The two are taken as independent; a commit's posterior
    leans on its ancestors', so the true sd is at most this one.
    """

    experiment_id: int | None
    title: str
    posterior: Posterior
    gain_mean: float | None
    gain_sd: float | None


@dataclass(frozen=True)
class Job:
    """A live lease, and the experiment it starts from (None: the root)."""

    lease: LeaseView
    base_id: int | None


@dataclass(frozen=True)
class Live:
    """What changes by the second: where the project stands, who works on what, and which workers rest and why."""

    experiments: int
    runs: int
    leader: Leader | None
    baseline: Posterior | None
    jobs: list[Job]
    early_stops: EarlyStops
    resting: list[WorkerView]


@dataclass(frozen=True)
class ProjectPage:
    """A project's page in one hardware class. `since` is the feed's cursor at the moment of these numbers."""

    project: ProjectView
    projects: list[ProjectView]
    objective: Objective
    hardware_class: str | None
    hardware_classes: list[HardwareClassCount]
    live: Live
    experiments: Page[ExperimentSummary]
    is_first: bool
    since: int


class Curve(Message):
    """A training curve for the plot: seconds since the start of the budget, step, and loss, point by point."""

    name: str
    is_parent: bool
    seconds: list[float]
    steps: list[int]
    losses: list[float]


class Curves(Message):
    """All curves of an experiment's page, the parent's first, to be drawn behind the others."""

    curves: list[Curve]


@dataclass(frozen=True)
class ExperimentPage:
    """An experiment's page."""

    project: ProjectView
    objective: Objective
    experiment: ExperimentDetail
    evidence: ExperimentEvidence
    picture: Picture | None
    curves: Curves
    context: LeaseContext
    since: int


@dataclass(frozen=True)
class RunPage:
    """The page of a run that belongs to no experiment: a measurement of the root."""

    project: ProjectView
    objective: Objective
    run: Run
    curves: Curves


def last_event_id(session: Session) -> int:
    """The feed's cursor: what a page made now has seen."""
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
        project=projects.view_project(project),
        projects=view_projects(session),
        objective=projects.contract_of(project).objective,
        hardware_class=chosen,
        hardware_classes=classes,
        live=_view_live(session, project, chosen, sum(known.runs for known in classes if known.name == chosen)),
        experiments=cut_page(summaries, PAGE_ROWS, lambda summary: summary.id),
        is_first=before_id is None,
        since=since,
    )


def _view_live(session: Session, project: Project, hardware_class: str | None, runs: int) -> Live:
    baseline = _find_posterior(session, project.root_sha, hardware_class)
    leases = view_live_leases(session, project)
    ids = queries.list_experiment_ids(session, [lease.base_sha for lease in leases])
    return Live(
        experiments=experiments_queries.count_experiments(session, project.id),
        runs=runs,
        leader=_view_leader(session, project, hardware_class, baseline),
        baseline=baseline,
        jobs=[Job(lease, ids.get(lease.base_sha)) for lease in leases],
        early_stops=evidence.view_early_stops(session, project),
        resting=fleet.view_resting(session, RESTING_ROWS),
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
    project = projects.get_project(session, detail.project)
    explained = experiments.view_evidence(session, experiment_id, detail.hardware_class)
    return ExperimentPage(
        project=projects.view_project(project),
        objective=projects.contract_of(project).objective,
        experiment=detail,
        evidence=explained,
        picture=draw_evidence(explained),
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
    project = projects.get_project(session, run.project)
    return RunPage(
        project=projects.view_project(project),
        objective=projects.contract_of(project).objective,
        run=run,
        curves=Curves(curves=_own_curves([run])),
    )
