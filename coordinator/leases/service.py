"""Claim, heartbeat, proposal, release. A claim looks and decides first, and then takes the job with one short write."""

import hmac
import secrets
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from coordinator.accounts.service import hash_token
from coordinator.activity import service as activity
from coordinator.evidence import service as evidence
from coordinator.fleet import service as fleet
from coordinator.leases import queries, state
from coordinator.leases.errors import (
    LeaseEndedError,
    LeaseForeignError,
    LeaseTokenError,
    LeaseTransitionError,
    LeaseUnknownError,
    ProtocolUnsupportedError,
)
from coordinator.leases.state import LeaseClock
from coordinator.lineage import service as lineage
from coordinator.models import Lease, Project, Worker
from coordinator.novelty import service as novelty
from coordinator.projects import service as projects
from coordinator.selection import service as selection
from coordinator.selection.context import compose_context
from coordinator.selection.policy import Decision, NoJob
from shared.contract import Budget
from shared.events import EventKind
from shared.experiments import JobKind, ProposalReply, ProposalSubmission
from shared.leases import (
    BaseCommit,
    ClaimReply,
    ClaimRequest,
    Heartbeat,
    HeartbeatReply,
    LeaseState,
    Phase,
    ReleaseRequest,
)
from shared.leases import Lease as LeaseGrant
from shared.protocol import PROTOCOL_VERSION, now
from shared.runs import MAX_SEED

MAX_LEASES_PER_WORKER = 2
"""One that trains, and one that is drafted meanwhile."""

ASK_AGAIN_SECONDS = 30.0


def claim(read: Session, write: Session, volunteer_id: int, request: ClaimRequest) -> ClaimReply:
    """Give a worker its next job. Raises ProtocolUnsupportedError, NotFoundError for an unknown project."""
    _check_protocol(request.protocol)
    project = _choose_project(read, request.project)
    if project is None:
        return _nothing("This coordinator has no project yet.", ASK_AGAIN_SECONDS)
    hardware_class = request.hardware.hardware_class
    known = fleet.find_worker(read, volunteer_id, request.worker)
    decision = selection.choose_job(read, project, known.id if known else None, hardware_class)
    if isinstance(decision, NoJob):
        return _nothing(decision.reason, decision.retry_after_seconds)
    context = compose_context(read, project.id, decision.base_sha, hardware_class)
    branch = lineage.get_branch_of_commit(read, project.id, decision.base_sha)
    # From here on there is a write transaction: no more looking around.
    worker = fleet.register_worker(write, volunteer_id, request.worker, request.agent, request.hardware)
    held = _give_up_forgotten(write, worker, set(request.holding))
    if held >= MAX_LEASES_PER_WORKER:
        return _nothing(f"This worker holds {held} jobs already.", ASK_AGAIN_SECONDS)
    token = secrets.token_urlsafe(24)
    lease = _add_lease(write, project, worker, decision, context, branch.id, token)
    return ClaimReply(lease=_view_grant(read, lease, project, branch.name, token, hardware_class))


def _check_protocol(version: int) -> None:
    if version != PROTOCOL_VERSION:
        older = "worker" if version < PROTOCOL_VERSION else "coordinator"
        raise ProtocolUnsupportedError(
            f"The worker speaks version {version}, this coordinator {PROTOCOL_VERSION}: update the {older}."
        )


def _choose_project(session: Session, name: str | None) -> Project | None:
    """The project asked for, or the one that fewest workers are on."""
    if name is not None:
        return projects.get_project(session, name)
    live = queries.count_live_leases_by_project(session)
    return min(projects.list_projects(session), key=lambda project: live.get(project.id, 0), default=None)


def _nothing(reason: str, retry_after_seconds: float) -> ClaimReply:
    return ClaimReply(lease=None, reason=reason, retry_after_seconds=retry_after_seconds)


def _give_up_forgotten(session: Session, worker: Worker, holding: set[UUID]) -> int:
    """Release the worker's live leases that it no longer works on; returns how many it holds."""
    held = 0
    for lease in queries.list_live_leases_of_worker(session, worker.id):
        if lease.id in holding:
            held += 1
        else:
            _end(session, lease, "The worker started anew and no longer works on this.")
    return held


def _add_lease(
    session: Session, project: Project, worker: Worker, decision: Decision, context: str, branch_id: int, token: str
) -> Lease:
    budget = projects.contract_of(project).budget
    moment = now()
    lease = Lease(
        id=uuid4(),
        project_id=project.id,
        worker_id=worker.id,
        branch_id=branch_id,
        hardware_class=worker.hardware_class,
        kind=decision.kind,
        base_sha=decision.base_sha,
        seed=secrets.randbelow(MAX_SEED),
        why=decision.why,
        context=context,
        token_sha256=hash_token(token),
        issued_at=moment,
    )
    _write_clock(lease, state.begin(decision.kind.makes_experiment, budget, moment), budget)
    session.add(lease)
    session.flush()
    activity.record(session, EventKind.LEASE_CLAIMED, project.id, lease=str(lease.id), worker=worker.name)
    return lease


def _view_grant(
    session: Session, lease: Lease, project: Project, branch: str, token: str, hardware_class: str
) -> LeaseGrant:
    contract = projects.contract_of(project)
    files = lineage.read_files(session, project.id, lease.base_sha, contract.files.editable)
    posterior = evidence.find_posterior(session, lease.base_sha, hardware_class)
    kind = JobKind(lease.kind)
    return LeaseGrant(
        id=lease.id,
        token=token,
        project=project.name,
        root_sha=project.root_sha,
        kind=kind,
        base=BaseCommit(
            sha=lease.base_sha,
            files=files,
            posterior=evidence.view_posterior(posterior),
        ),
        branch=branch,
        seed=lease.seed,
        why=lease.why,
        context=lease.context,
        trials=selection.list_trials(session, project.id, hardware_class) if kind.makes_experiment else [],
        issued_at=lease.issued_at,
        expires_at=lease.expires_at,
        deadline_at=lease.deadline_at,
        heartbeat_seconds=min(state.HEARTBEAT_SECONDS, max(2.0, contract.budget.training_seconds / 5)),
    )


def heartbeat(session: Session, volunteer_id: int, lease_id: UUID, beat: Heartbeat) -> HeartbeatReply:
    """Renew a lease. Raises LeaseEndedError once it has ended, LeaseTransitionError for a step back."""
    lease, project = _lock_own(session, volunteer_id, lease_id, beat.token)
    moment = now()
    clock = _read_clock(lease)
    _refuse_ended(lease, moment)
    try:
        after = state.beat(clock, beat.phase, beat.step, beat.share, moment)
    except state.TransitionError as error:
        raise LeaseTransitionError(f"{error}.") from error
    _write_clock(lease, after, projects.contract_of(project).budget)
    lease.loss = beat.loss
    if after.phase is not clock.phase:
        activity.record(session, EventKind.LEASE_PROGRESSED, lease.project_id, lease=str(lease.id), phase=after.phase)
    return HeartbeatReply(state=after.state, expires_at=lease.expires_at)


def submit_proposal(
    read: Session, write: Session, volunteer_id: int, lease_id: UUID, submission: ProposalSubmission
) -> ProposalReply:
    """Judge a proposal before a GPU is used, and reserve its code. Raises SwarmError for files that are not allowed."""
    seen = _find_own(read, volunteer_id, lease_id)
    project = read.get_one(Project, seen.project_id)
    contract = projects.contract_of(project)
    lineage.check_files(submission.files, contract.files)
    tree_sha = lineage.compute_child_tree(read, seen.base_sha, submission.files)
    # From here on there is a write transaction.
    lease, _ = _lock_own(write, volunteer_id, lease_id, submission.token)
    _refuse_ended(lease, now())
    if lease.state != LeaseState.DRAFTING and lease.proposed_tree_sha == tree_sha:
        return ProposalReply(accepted=True)  # sent again because the answer was lost
    duplicate = novelty.find_duplicate(write, project.id, tree_sha, lease.id)
    try:
        transition = state.accept_proposal if duplicate is None else state.try_draft_again
        clock = transition(_read_clock(lease), now())
    except state.TransitionError as error:
        raise LeaseTransitionError(f"{error}.") from error
    _write_clock(lease, clock, contract.budget)
    if duplicate is not None:
        return ProposalReply(accepted=False, duplicate_of=duplicate.experiment_id, reason=duplicate.reason)
    lease.proposal = submission.proposal.model_dump(mode="json")
    lease.proposed_tree_sha = tree_sha
    activity.record(write, EventKind.LEASE_PROGRESSED, project.id, lease=str(lease.id), phase=Phase.READY)
    return ProposalReply(accepted=True)


def release(session: Session, volunteer_id: int, lease_id: UUID, request: ReleaseRequest) -> HeartbeatReply:
    """Take a job back. Releasing again is fine; after the result it changes nothing."""
    lease, _ = _lock_own(session, volunteer_id, lease_id, request.token)
    if lease.state in state.LIVE:
        _end(session, lease, request.reason)
    return HeartbeatReply(state=LeaseState(lease.state), expires_at=lease.expires_at)


def finish(session: Session, lease: Lease, budget: Budget) -> None:
    """Mark that a lease's result was stored. Raises LeaseTransitionError if it had one."""
    try:
        clock = state.finish(_read_clock(lease), now())
    except state.TransitionError as error:
        raise LeaseTransitionError(f"{error}.") from error
    _write_clock(lease, clock, budget)
    lease.ended_at = now()
    activity.record(session, EventKind.LEASE_ENDED, lease.project_id, lease=str(lease.id), state=lease.state)


def _end(session: Session, lease: Lease, reason: str) -> None:
    lease.state = state.release(_read_clock(lease), now()).state
    lease.ended_at, lease.end_reason = now(), reason
    activity.record(session, EventKind.LEASE_ENDED, lease.project_id, lease=str(lease.id), state=lease.state)
    session.flush()


def _find_own(session: Session, volunteer_id: int, lease_id: UUID) -> Lease:
    return check_owner(session, queries.find_lease(session, lease_id), volunteer_id)


def _lock_own(session: Session, volunteer_id: int, lease_id: UUID, token: str) -> tuple[Lease, Project]:
    lease = check_owner(session, queries.lock_lease(session, lease_id), volunteer_id)
    if not hmac.compare_digest(lease.token_sha256, hash_token(token)):
        raise LeaseTokenError("Send the token that came with the lease.")
    return lease, session.get_one(Project, lease.project_id)


def check_owner(session: Session, lease: Lease | None, volunteer_id: int) -> Lease:
    """The lease, if there is one and it is this volunteer's. Raises LeaseUnknownError, LeaseForeignError."""
    if lease is None:
        raise LeaseUnknownError("Claim a job first; this coordinator never gave out that lease.")
    if fleet.get_worker(session, lease.worker_id).volunteer_id != volunteer_id:
        raise LeaseForeignError("Only the volunteer who claimed a job can speak for it.")
    return lease


def _refuse_ended(lease: Lease, moment: datetime) -> None:
    effective = state.effective_state(LeaseState(lease.state), lease.expires_at, moment)
    if effective not in state.LIVE:
        raise LeaseEndedError(f"It is {effective}. A finished run may still be delivered; for more work, claim again.")


def _read_clock(lease: Lease) -> LeaseClock:
    return LeaseClock(
        state=LeaseState(lease.state),
        phase=Phase(lease.phase),
        step=lease.step,
        share=lease.share,
        phase_started_at=lease.phase_started_at,
        heartbeat_at=lease.heartbeat_at,
        progressed_at=lease.progressed_at,
        deadline_at=lease.deadline_at,
    )


def _write_clock(lease: Lease, clock: LeaseClock, budget: Budget) -> None:
    lease.state, lease.phase = clock.state, clock.phase
    lease.step, lease.share = clock.step, clock.share
    lease.phase_started_at, lease.heartbeat_at = clock.phase_started_at, clock.heartbeat_at
    lease.progressed_at, lease.deadline_at = clock.progressed_at, clock.deadline_at
    lease.expires_at = state.expires_at(clock, budget)
