"""From the database to the policy's snapshot, and to the trials that an agent learns from."""

from collections.abc import Sequence
from random import Random

from sqlalchemy.orm import Session

from coordinator.experiments import service as experiments
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.selection import queries
from coordinator.selection.policy import Candidate, Decision, NoJob, Snapshot, decide
from coordinator.selection.queries import RunningJob
from coordinator.selection.queries import list_running_jobs as list_running_jobs
from shared.experiments import Proposal, Trial
from shared.runs import RunOutcome

MAX_TRIALS = 128


def choose_job(session: Session, project: Project, worker_id: int | None, hardware_class: str) -> Decision | NoJob:
    """The next job for a worker; `worker_id` is None for one that was never here."""
    return decide(_take_snapshot(session, project, worker_id, hardware_class), Random())


def _take_snapshot(session: Session, project: Project, worker_id: int | None, hardware_class: str) -> Snapshot:
    in_flight = queries.count_children_in_flight(session, project.id)
    root_runs: dict[str, int] = {}
    jobs_done = 0
    if worker_id is not None:
        root_runs = queries.count_runs_by_outcome(session, worker_id, project.root_sha, hardware_class)
        jobs_done = queries.count_jobs_done(session, worker_id, project.id)
    root_measured = root_runs.pop(RunOutcome.OK, 0)
    return Snapshot(
        root_sha=project.root_sha,
        root_measured=root_measured,
        root_failed=sum(root_runs.values()),
        jobs_done=jobs_done,
        candidates=[
            Candidate(*row, in_flight.get(row.sha, 0))
            for row in queries.list_frontier(session, project.id, hardware_class)
        ],
        mix=projects.contract_of(project).jobs,
    )


def list_trials(session: Session, project_id: int, hardware_class: str, running: Sequence[RunningJob]) -> list[Trial]:
    """What the swarm tried in this hardware class, newest first, after what others run now."""
    tried = experiments.list_trials(session, project_id, hardware_class, MAX_TRIALS)
    return [*(_view_running(job) for job in running), *tried]


def _view_running(job: RunningJob) -> Trial:
    proposal = Proposal.model_validate(job.proposal)
    return Trial(
        sha=job.tree_sha,
        parent_sha=job.base_sha,
        title=proposal.title,
        axis=proposal.axis,
        settings=proposal.settings,
        metric_mean=None,
        metric_sd=None,
        outcome="running",
    )
