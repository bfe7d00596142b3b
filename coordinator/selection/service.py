"""From the database to the policy's snapshot, and to the trials that an agent learns from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from random import Random

from sqlalchemy.orm import Session

from coordinator.experiments import service as experiments
from coordinator.models import Project, Worker
from coordinator.projects import service as projects
from coordinator.selection import queries
from coordinator.selection.policy import LEADERS, Candidate, Decision, NoJob, Snapshot, decide, turn_to_measure
from coordinator.selection.queries import FrontierRow, RunningJob, WorkerHistory
from coordinator.selection.queries import list_running_jobs as list_running_jobs
from shared.experiments import JobKind, Proposal, Standing, Trial
from shared.protocol import now

MAX_TRIALS = 128
NOBODY = WorkerHistory(0, 0, 0, 0, None, None)


def choose_job(
    session: Session, project: Project, worker: Worker | None, hardware_class: str, jobs_held: int = 0
) -> Decision | NoJob:
    """The next job for a worker that holds so many already; None stands for one that was never here."""
    return decide(_take_snapshot(session, project, worker, hardware_class, jobs_held), Random())


def _take_snapshot(
    session: Session, project: Project, worker: Worker | None, hardware_class: str, jobs_held: int
) -> Snapshot:
    in_flight = queries.count_in_flight(session, project.id)
    history = NOBODY if worker is None else queries.find_history(session, project.id, hardware_class, worker.id)
    frontier = queries.list_frontier(session, project.id, hardware_class)
    snapshot = Snapshot(
        root_sha=project.root_sha,
        root_measured=history.seed_measured,
        root_failed=history.seed_failed,
        jobs_done=history.jobs_done,
        candidates=[_view_candidate(row, in_flight) for row in frontier],
        mix=projects.contract_of(project).jobs,
        failures_in_row=history.failures_in_row,
        seconds_since_run=(now() - history.last_run_at).total_seconds() if history.last_run_at else inf,
        quarantine=history.quarantine,
        jobs_held=jobs_held,
    )
    if worker is None or turn_to_measure(snapshot.jobs_done + jobs_held, snapshot.mix) is None:
        return snapshot
    leaders = [row.sha for row in frontier[:LEADERS]]
    return replace(
        snapshot,
        own=queries.find_measured_by(session, worker.volunteer_id, leaders),
        is_alone=not queries.has_other_volunteer(session, project.id, hardware_class, worker.volunteer_id),
        elsewhere=_find_elsewhere(session, project, hardware_class, frontier, in_flight),
    )


def _view_candidate(row: FrontierRow, in_flight: Mapping[tuple[str, JobKind], int]) -> Candidate:
    counts = {kind: in_flight.get((row.sha, kind), 0) for kind in JobKind}
    return Candidate(
        row.sha, row.rank_score, row.metric_sd, row.runs,
        children_in_flight=sum(count for kind, count in counts.items() if kind.makes_experiment),
        is_settled=row.standing in (Standing.VERIFIED, Standing.SINGLE_OWNER),
        is_suspect=row.standing == Standing.SUSPECT,
        measured_in_flight=sum(count for kind, count in counts.items() if not kind.makes_experiment),
    )  # fmt: skip


def _find_elsewhere(
    session: Session, project: Project, hardware_class: str, frontier: Sequence[FrontierRow],
    in_flight: Mapping[tuple[str, JobKind], int],
) -> str | None:  # fmt: skip
    """The commit that gained most over the seed on other hardware, if none gained as much here, and it is new here."""
    here = queries.find_score(session, project.root_sha, hardware_class)
    if here is None or not frontier:
        return None
    best_gain, best_sha = frontier[0].rank_score - here, None
    for other in queries.list_other_classes(session, project.id, hardware_class):
        root = queries.find_score(session, project.root_sha, other)
        for row in queries.list_frontier(session, project.id, other)[:1]:
            if root is not None and row.rank_score - root < best_gain:
                best_gain, best_sha = row.rank_score - root, row.sha
    if best_sha is None or queries.find_score(session, best_sha, hardware_class) is not None:
        return None
    return None if in_flight.get((best_sha, JobKind.REPLICATE)) else best_sha


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
