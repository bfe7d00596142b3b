"""Chooses a worker's next job: reads the policy's snapshot from the database, and the trials that an agent reads."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from random import Random
from typing import NamedTuple

from coordinator.db.engine import Conn, objects_of
from coordinator.evidence import confirmations, promotions
from coordinator.evidence.calibration_queries import has_anchor_at_work
from coordinator.evidence.posteriors import find_missing_base, find_posterior
from coordinator.evidence.trust import is_doubted, list_due
from coordinator.experiments import service as experiments
from coordinator.lineage.branches import BranchRow, get_branch_by_name, is_stalled, list_branch_rows
from coordinator.lineage.commits import get_commit
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.projects.settings import settings_of
from coordinator.selection import job_mix, policy, queries
from coordinator.selection.combinations import read_model
from coordinator.selection.frontier import Frontier, read_frontier
from coordinator.selection.job_details import Assigner
from coordinator.selection.parents import Candidate, ResearchDirection
from coordinator.selection.policy import LEADERS, Decision, NoJob, Snapshot, decide
from coordinator.selection.queries import WorkerHistory
from coordinator.selection.running_jobs import RunningJob
from coordinator.selection.under_way import UnderWay, read_under_way
from coordinator.workers.lookup import WorkerRow
from shared.contract import Contract
from shared.experiments import Assignment, JobKind, Proposal, Standing, Trial
from shared.leases import ClaimRequest
from shared.projects import BranchState, ProjectMode
from shared.protocol import now

MAX_TRIALS = 128
STAGGER = 3
"""Offset in turns between one worker and the next, so that a fleet that begins together does not measure at once."""

NOBODY = WorkerHistory(0, 0, 0, 0, None, None, None, is_anchor=False)


class ChosenJob(NamedTuple):
    """A decision, what it asks for, its branch if it names one, and whether the worker's experiments start from another
    parent than before."""

    decision: Decision
    assignment: Assignment
    branch: BranchRow | None
    is_new_parent: bool


def choose_job(
    session: Conn, project: Project, volunteer_id: int, worker: WorkerRow | None, request: ClaimRequest
) -> ChosenJob | NoJob:
    """The next job for a volunteer's worker; None stands for one that was never here. Raises NotFoundError."""
    rng = Random()
    hardware_class = request.hardware.hardware_class
    branches = list_branch_rows(session, project.id)
    snapshot = _take_snapshot(session, project, volunteer_id, worker, request, branches)
    decision = decide(snapshot, rng)
    if isinstance(decision, NoJob):
        return decision
    decision, assignment = Assigner(session, project, hardware_class, rng).assign(decision, snapshot, branches)
    is_new_parent = decision.kind.makes_experiment and decision.base_sha != snapshot.last_parent
    branch = next((row for row in branches if row.id == decision.branch_id), None)
    return ChosenJob(decision, assignment, branch, is_new_parent)


def record_parent(session: Conn, project: Project, worker: WorkerRow, chosen: ChosenJob) -> None:
    """Remembers the commit that the worker's experiments start from, where it is another than before."""
    if chosen.is_new_parent:
        queries.record_parent(session, project.id, worker.hardware_class, worker.id, chosen.decision.base_sha)


def _take_snapshot(
    session: Conn, project: Project, volunteer_id: int, worker: WorkerRow | None, request: ClaimRequest,
    branches: Sequence[BranchRow],
) -> Snapshot:  # fmt: skip
    hardware_class, contract = request.hardware.hardware_class, projects.contract_of(project)
    under_way = read_under_way(session, project.id)
    history = NOBODY if worker is None else queries.find_history(session, project.id, hardware_class, worker.id)
    frontier = read_frontier(session, project.id, hardware_class)
    chosen_id = None
    if request.branch is not None:
        with objects_of(session) as objects:
            chosen_id = get_branch_by_name(objects, project, request.branch).id
    directions = _view_branches(branches, under_way, contract)
    is_draining, shares = settings_of(project).mode == ProjectMode.DRAINING, dict[JobKind, float]()
    if request.kinds != [JobKind.IMPROVE]:
        shares = queries.map_shares(session, project.id) or job_mix.share_by_contract(contract.jobs)
    snapshot = Snapshot(
        root_sha=project.root_sha,
        root_measured=history.seed_measured,
        root_failed=history.seed_failed,
        turn=history.jobs_done + len(request.holding) + (STAGGER * (worker.id - 1) if worker else 0),
        candidates=frontier.view_candidates(under_way),
        mix=contract.jobs,
        failures_in_row=history.failures_in_row,
        seconds_since_run=(now() - history.last_run_at).total_seconds() if history.last_run_at else inf,
        quarantine=history.quarantine,
        is_anchor=history.is_anchor,
        jobs_held=len(request.holding),
        rules=contract.diversity,
        branches=directions,
        chosen=next((known for known in directions if known.id == chosen_id), None),
        last_parent=history.parent_sha,
        kinds=frozenset() if is_draining else frozenset(request.kinds),
        is_draining=is_draining,
        shares=shares,
        needs_control=not history.is_calibrated and history.jobs_done >= policy.JOBS_BEFORE_CONTROL,
    )
    if history.seed_measured == 0:
        of_class, enough = (project.id, hardware_class, project.root_sha), (policy.SEED_WORKERS, policy.SEED_VOLUNTEERS)
        count, volunteers = queries.find_seed_workers(session, *of_class, *enough)
        root_score = queries.find_score(session, project.root_sha, hardware_class)
        snapshot = replace(
            snapshot,
            seed_workers=count,
            seed_lacks_votes=volunteer_id not in volunteers and len(volunteers) < policy.SEED_VOLUNTEERS,
            has_results=root_score is not None,
        )
    snapshot = _count_fleet(session, project, volunteer_id, snapshot, under_way.fleet)
    is_asked = snapshot.is_anchor or snapshot.needs_control or not snapshot.kinds
    is_turn = is_asked or policy.turn_to_measure(snapshot.turn, snapshot.mix) is not None
    if worker is None:
        return snapshot
    half = promotions.find_half(session, project, hardware_class, worker.id)
    if half is not None or not is_turn:
        return replace(snapshot, to_promote=half)
    return _add_checks(session, project, worker, hardware_class, snapshot, frontier, under_way)


def _add_checks(
    session: Conn, project: Project, worker: WorkerRow, hardware_class: str, snapshot: Snapshot, frontier: Frontier,
    under_way: UnderWay,
) -> Snapshot:  # fmt: skip
    """Adds what a job to measure is chosen by: commits that are due, and those that this worker may not check."""
    record = next((one.sha for one in frontier.candidates if one.is_settled), None)
    expected = find_expected_best(session, project, frontier.candidates)
    snapshot = replace(snapshot, expected=expected)
    leaders = policy.list_leaders(snapshot)
    looked_at = [one.sha for one in (*frontier.candidates[:LEADERS], *leaders)]
    looked_at += [sha for sha in (snapshot.last_parent, record, expected) if sha]
    measured = under_way.measurements.keys()
    seed_waits, bases = False, dict[str, str]()
    if snapshot.is_anchor:
        seed_waits, bases = _find_missing_bases(session, project, worker, hardware_class, leaders)
    due = list_due(session, project.id, hardware_class, worker, is_anchor=snapshot.is_anchor)
    reserved = frozenset[str]()
    if not snapshot.is_anchor and has_anchor_at_work(session, project.id, hardware_class):
        asked = frozenset({*looked_at, *due} - {project.root_sha})
        checks = queries.map_checks(session, hardware_class, sorted(asked))
        anchored = {sha for sha, is_anchored in checks.items() if is_anchored}
        disputed = {one.sha for one in frontier.candidates if one.is_disputed}
        reserved = frozenset(checks) | (measured - {project.root_sha})
        reserved = asked if is_doubted(session, project.id, worker.volunteer_id) else reserved - disputed
        reserved -= anchored
    of_volunteer = queries.count_measured_by(session, worker.volunteer_id, hardware_class, [*looked_at, *due])
    own = dict.fromkeys(reserved, 0) | of_volunteer
    return replace(
        snapshot,
        to_confirm=confirmations.find_job(session, project, hardware_class, worker.volunteer_id, worker.id),
        to_promote=promotions.find_job(session, project, hardware_class, worker.volunteer_id, worker.id),
        seed_waits=seed_waits,
        own=own,
        bases=bases,
        is_alone=not queries.has_other_volunteer(session, project.id, hardware_class, worker.volunteer_id),
        elsewhere=_find_elsewhere(session, project, hardware_class, frontier.candidates, under_way),
        due=[sha for sha in due if sha not in measured and (sha not in own or snapshot.is_anchor)],
    )


def _find_missing_bases(
    session: Conn, project: Project, worker: WorkerRow, hardware_class: str, leaders: Sequence[Candidate]
) -> tuple[bool, dict[str, str]]:
    """For an anchor: whether the seed waits for it, and the base that it measures before each corroborated leader."""
    contract = projects.contract_of(project)
    waiting = [get_commit(session, one.sha) for one in leaders if one.is_corroborated]
    missing = {one.sha: find_missing_base(session, contract, one, hardware_class, worker.id) for one in waiting}
    is_anchored = queries.map_checks(session, hardware_class, [project.root_sha]).get(project.root_sha, False)
    seed_waits = not is_anchored and not queries.is_measuring(session, worker.id, project.root_sha)
    bases = {of: base for of, base in missing.items() if base and not queries.is_measuring(session, worker.id, base)}
    return seed_waits, bases


def find_expected_best(session: Conn, project: Project, candidates: Sequence[Candidate]) -> str | None:
    """The commit that jobs to combine build upon; None while there is no model, or the contract has no such jobs."""
    if not projects.contract_of(project).jobs.combine:
        return None
    known = read_model(session, project)
    best = known.find_best(candidates) if known is not None else None
    return best.sha if best is not None else None


def needs_run(session: Conn, contract: Contract, hardware_class: str, sha: str, volunteer_id: int) -> bool:
    """Whether a volunteer that proposes a commit's code anew should measure it: where it was never measured and did not
    crash by itself, or looks like a gain that only others have measured."""
    posterior = find_posterior(session, sha, hardware_class)
    if posterior is not None and posterior.standing == Standing.REJECTED:
        return False
    if posterior is None or posterior.effect_mean is None:
        return not queries.has_crashed_by_itself(session, sha, hardware_class)
    is_open = posterior.standing == Standing.PROVISIONAL and posterior.runs < policy.MAX_RUNS_OF_ONE_COMMIT
    is_gain = contract.objective.sign * posterior.effect_mean < 0
    return is_open and is_gain and not queries.count_measured_by(session, volunteer_id, hardware_class, [sha])


def _view_branches(branches: Sequence[BranchRow], under_way: UnderWay, contract: Contract) -> list[ResearchDirection]:
    return [
        ResearchDirection(
            row.id, row.name, row.head_sha, row.state == BranchState.ACTIVE,
            is_stalled(row.experiments_without_gain, jobs, contract.diversity), jobs, row.share, _why_closed(row)
        )
        for row in branches
        for jobs in [under_way.on_branches.get(row.id, 0)]
    ]  # fmt: skip


def _why_closed(branch: BranchRow) -> str:
    """The reason why a branch gets no jobs at all, as the end of a sentence; empty for most."""
    if branch.state == BranchState.PROPOSED:
        return "waits for a maintainer's approval"
    return "was paused by a maintainer" if branch.is_locked else ""


def _count_fleet(session: Conn, project: Project, volunteer_id: int, snapshot: Snapshot, fleet: int) -> Snapshot:
    """How much of the fleet a volunteer holds, looked up where it can matter."""
    if fleet < policy.MIN_FLEET:
        return snapshot
    held = queries.count_held(session, project.id, volunteer_id)
    near = policy.is_near_share(held, fleet, snapshot.rules)
    volunteers = queries.count_volunteers_at_work(session, project.id) if near else 1
    return replace(snapshot, held=held, fleet=fleet, volunteers=volunteers)


def _find_elsewhere(
    session: Conn, project: Project, hardware_class: str, frontier: Sequence[Candidate],
    under_way: UnderWay,
) -> str | None:  # fmt: skip
    """The commit that gained most over the seed on other hardware, if none gained as much here, and it is new here."""
    here = queries.find_score(session, project.root_sha, hardware_class)
    if here is None or not frontier:
        return None
    best_gain, best_sha = frontier[0].mean - here, None
    for other in queries.list_other_classes(session, project.id, hardware_class):
        root = queries.find_score(session, project.root_sha, other)
        for leader in read_frontier(session, project.id, other).candidates[:1]:
            if root is not None and leader.mean - root < best_gain:
                best_gain, best_sha = leader.mean - root, leader.sha
    if best_sha is None or queries.find_score(session, best_sha, hardware_class) is not None:
        return None
    return None if best_sha in under_way.replicated else best_sha


def list_trials(session: Conn, project_id: int, hardware_class: str, running: Sequence[RunningJob]) -> list[Trial]:
    """The trials in this hardware class, newest first, after those that run now."""
    tried = experiments.list_trials(session, project_id, hardware_class, MAX_TRIALS)
    return [*(_view_running(job, Proposal.model_validate(job.proposal)) for job in running), *tried]


def _view_running(job: RunningJob, proposal: Proposal) -> Trial:
    return Trial(
        sha=job.tree_sha, parent_sha=job.base_sha, title=proposal.title, axis=proposal.axis,
        settings=proposal.settings, metric_mean=None, metric_sd=None, outcome="running",
    )  # fmt: skip
