"""Claim, heartbeat, proposal, release. A claim looks and decides first, and then takes the job with one short write."""

import hmac
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.orm import Session

from coordinator.accounts.service import hash_token
from coordinator.activity import service as activity
from coordinator.evidence import service as evidence
from coordinator.findings.shelf import Shelf
from coordinator.fleet import service as fleet
from coordinator.fleet.service import WorkerRow
from coordinator.leases import gating, queries, state
from coordinator.leases.beats import HeldBeat, HeldBeats
from coordinator.leases.errors import (
    LeaseEndedError,
    LeaseForeignError,
    LeaseTokenError,
    LeaseTransitionError,
    LeaseUnknownError,
)
from coordinator.leases.queries import LeaseRow
from coordinator.leases.state import LeaseClock
from coordinator.lineage import service as lineage
from coordinator.lineage.service import BranchName
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.selection import service as selection
from coordinator.selection.context import Pack, PackRequest, compose_pack
from coordinator.selection.policy import Decision, NoJob
from coordinator.selection.service import ChosenJob
from shared.contract import Budget
from shared.events import EventKind
from shared.experiments import JobKind
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
from shared.projects import BranchState
from shared.protocol import Versions, now
from shared.runs import MAX_SEED

MAX_LEASES_PER_WORKER = 2
"""One that trains, and one that is drafted meanwhile."""

ASK_AGAIN_SECONDS = 30.0
SAMPLED_ONE_IN = 5
"""Of the hopeless runs, so many go on to the end, at random: what stopping costs is known from them."""

NO_PACK = Pack("", [])
"""Who measures needs nothing to read."""

HELD_WITHIN = timedelta(seconds=30)
"""A heartbeat is written at once where the lease, as it is stored, has no more than this left."""


def claim(
    read: Session, write: Session, shelf: Shelf, volunteer_id: int, request: ClaimRequest, versions: Versions
) -> ClaimReply:
    """Give a worker its next job. Raises ProtocolUnsupportedError, NotFoundError for an unknown project."""
    gating.check_versions(request.protocol, None, versions)
    project = _choose_project(read, request)
    if isinstance(project, str):
        return _nothing(project, ASK_AGAIN_SECONDS)
    contract = projects.contract_of(project)
    hardware_class = request.hardware.hardware_class
    known = fleet.find_worker(read, volunteer_id, request.worker)
    chosen = selection.choose_job(read, project, volunteer_id, known, request)
    if isinstance(chosen, NoJob):
        return _nothing(chosen.reason, chosen.retry_after_seconds)
    decision = chosen.decision
    running = selection.list_running_jobs(read, project.id)
    branch = _find_branch(read, project, decision)
    pack = NO_PACK
    if decision.kind.makes_experiment:
        about = f"{chosen.assignment.axis or ''} {branch.name} {branch.theme}"
        sign = contract.objective.sign
        asked = PackRequest(project.id, decision.base_sha, hardware_class, sign, about, running)
        pack = compose_pack(read, shelf, asked)
    base = _read_base(read, project, decision, hardware_class)
    trials = []
    if decision.kind is JobKind.TUNE or (request.wants_trials and decision.kind.makes_experiment):
        trials = selection.list_trials(read, project.id, hardware_class, running)
    # From here on there is a write transaction: no more looking around.
    worker = fleet.register_worker(write, volunteer_id, request.worker, request.agent, request.hardware)
    held = _give_up_forgotten(write, worker, set(request.holding))
    if held >= MAX_LEASES_PER_WORKER:
        return _nothing(f"This worker holds {held} jobs already.", ASK_AGAIN_SECONDS)
    columns = _make_lease(project, worker, chosen, branch.id)
    if chosen.is_new_parent:
        selection.note_parent(write, project.id, hardware_class, worker.id, decision.base_sha)
    if request.branch == branch.name and branch.state == BranchState.RESTING:
        why = f"{worker.name}'s volunteer chose it."
        lineage.wake(write, lineage.get_branch(write, branch.id), worker.name, why)
    token = secrets.token_urlsafe(24)
    queries.add_lease(
        write, columns | {"context": pack.text, "findings_read": pack.findings, "token_sha256": hash_token(token)}
    )
    activity.record(write, EventKind.LEASE_CLAIMED, project.id, lease=str(columns["id"]), worker=worker.name)
    return ClaimReply(
        lease=LeaseGrant(
            id=columns["id"],
            token=token,
            project=project.name,
            root_sha=project.root_sha,
            kind=decision.kind,
            base=base,
            assignment=chosen.assignment,
            branch=branch.name,
            seed=columns["seed"],
            run_to_end=secrets.randbelow(SAMPLED_ONE_IN) == 0,
            why=decision.why,
            context=pack.text,
            trials=trials,
            issued_at=columns["issued_at"],
            expires_at=columns["expires_at"],
            deadline_at=columns["deadline_at"],
            heartbeat_seconds=min(state.HEARTBEAT_SECONDS, max(2.0, contract.budget.training_seconds / 5)),
        )
    )


def _choose_project(session: Session, request: ClaimRequest) -> Project | str:
    """The project asked for, or of those that fit the one that fewest workers are on; else why there is none."""
    if request.project is not None:
        every = [projects.get_project(session, request.project)]
    else:
        every = list(projects.list_projects(session))
    reasons = {project.name: gating.why_unfit(projects.contract_of(project), request.hardware) for project in every}
    fitting = [project for project in every if not reasons[project.name]]
    live = queries.count_live_leases_by_project(session) if len(fitting) > 1 else {}
    chosen = min(fitting, key=lambda project: live.get(project.id, 0), default=None)
    return chosen or next(iter(reasons.values()), "This coordinator has no project yet.")


def _nothing(reason: str, retry_after_seconds: float) -> ClaimReply:
    return ClaimReply(lease=None, reason=reason, retry_after_seconds=retry_after_seconds)


def _give_up_forgotten(session: Session, worker: WorkerRow, holding: set[UUID]) -> int:
    """End the worker's leases that have expired or that it no longer works on; returns how many it holds."""
    held, moment = 0, now()
    for lease_id, expires_at in queries.list_open_of_worker(session, worker.id):
        if expires_at <= moment:
            expire(session, lease_id, "Its time ran out, and its worker asked for another job.")
        elif lease_id in holding:
            held += 1
        else:
            _release(
                session, queries.lock_lease(session, lease_id), "The worker started anew and no longer works on this."
            )
    return held


def _find_branch(session: Session, project: Project, decision: Decision) -> BranchName:
    if decision.branch_id is not None:
        return lineage.get_branch_name(session, decision.branch_id)
    return lineage.get_branch_of_commit(session, project.id, decision.base_sha)


def _make_lease(project: Project, worker: WorkerRow, chosen: ChosenJob, branch_id: int) -> dict[str, Any]:
    """The columns of a new lease, less its context and token."""
    budget, decision = projects.contract_of(project).budget, chosen.decision
    asked_for = chosen.assignment.model_dump(mode="json", exclude_defaults=True)
    moment = now()
    return {
        "id": uuid4(),
        "project_id": project.id,
        "worker_id": worker.id,
        "branch_id": branch_id,
        "hardware_class": worker.hardware_class,
        "kind": decision.kind,
        "base_sha": decision.base_sha,
        "seed": secrets.randbelow(MAX_SEED),
        "why": decision.why,
        "end_reason": "",
        "assignment": asked_for or None,
        "issued_at": moment,
        **columns_of(state.begin(decision.kind.makes_experiment, budget, moment), budget),
    }


def _read_base(session: Session, project: Project, decision: Decision, hardware_class: str) -> BaseCommit:
    editable, sha = projects.contract_of(project).files.editable, decision.base_sha
    return BaseCommit(
        sha=sha,
        files=lineage.read_files(session, project.id, sha, editable),
        posterior=evidence.view_posterior(evidence.find_posterior(session, sha, hardware_class)),
        curve=evidence.find_curve(session, sha, hardware_class) if decision.kind.makes_experiment else [],
    )


def heartbeat(
    read: Session, write: Session, beats: HeldBeats, volunteer_id: int, lease_id: UUID, beat: Heartbeat
) -> HeartbeatReply:
    """Renew a lease. Raises LeaseEndedError once it has ended, LeaseTransitionError for a step back."""
    lease = find_own(read, volunteer_id, lease_id)
    check_token(lease, beat.token)
    budget = projects.parse_stored(lease.contract).budget
    clock = clock_of(lease)
    held = beats.find(lease_id, clock) or HeldBeat(clock, None, lease.expires_at)
    after = _beat(held.clock, held.expires_at, beat)
    ends_at = state.expires_at(after, budget)
    if after.phase is clock.phase and lease.expires_at - after.heartbeat_at > HELD_WITHIN:
        beats.hold(lease_id, HeldBeat(after, beat.loss, ends_at))
        return HeartbeatReply(state=after.state, expires_at=ends_at)
    beats.write_of(write, lease_id)
    lease = queries.lock_lease(write, lease_id)
    after = _beat(clock_of(lease), lease.expires_at, beat)
    columns = columns_of(after, budget)
    queries.change_lease(write, lease_id, columns | {"loss": beat.loss})
    if after.phase != lease.phase:
        activity.record(write, EventKind.LEASE_PROGRESSED, lease.project_id, lease=str(lease_id), phase=after.phase)
    return HeartbeatReply(state=after.state, expires_at=columns["expires_at"])


def _beat(clock: LeaseClock, expires_at: datetime, beat: Heartbeat) -> LeaseClock:
    moment = now()
    refuse_ended(clock.state, expires_at, moment)
    try:
        return state.beat(clock, beat.phase, beat.step, beat.share, moment)
    except state.TransitionError as error:
        raise LeaseTransitionError(f"{error}.") from error


def release(
    read: Session, write: Session, beats: HeldBeats, volunteer_id: int, lease_id: UUID, request: ReleaseRequest
) -> HeartbeatReply:
    """Take a job back. Releasing again is fine; after the result it changes nothing."""
    check_token(find_own(read, volunteer_id, lease_id), request.token)
    beats.write_of(write, lease_id)
    lease = queries.lock_lease(write, lease_id)
    if lease.state not in state.LIVE:
        return HeartbeatReply(state=LeaseState(lease.state), expires_at=lease.expires_at)
    return HeartbeatReply(state=_release(write, lease, request.reason), expires_at=lease.expires_at)


def finish(session: Session, lease: LeaseRow, result: Mapping[str, Any]) -> None:
    """Note that a lease's result was stored, in the columns of `result`. Raises LeaseTransitionError if it had one."""
    moment = now()
    try:
        clock = state.finish(clock_of(lease), moment)
    except state.TransitionError as error:
        raise LeaseTransitionError(f"{error}.") from error
    columns = columns_of(clock, projects.parse_stored(lease.contract).budget) | {"ended_at": moment, **result}
    queries.change_lease(session, lease.id, columns)
    activity.record(session, EventKind.LEASE_ENDED, lease.project_id, lease=str(lease.id), state=clock.state)


def _release(session: Session, lease: LeaseRow, reason: str) -> LeaseState:
    return _end(session, lease, state.release(clock_of(lease), now()).state, reason)


def expire(session: Session, lease_id: UUID, reason: str) -> None:
    """Write down that a lease has expired, because something of it is given away now."""
    lease = queries.lock_lease(session, lease_id)
    _end(session, lease, state.expire(clock_of(lease)).state, reason)


def _end(session: Session, lease: LeaseRow, ended: LeaseState, reason: str) -> LeaseState:
    queries.change_lease(session, lease.id, {"state": ended, "ended_at": now(), "end_reason": reason})
    activity.record(session, EventKind.LEASE_ENDED, lease.project_id, lease=str(lease.id), state=ended)
    return ended


def find_own(session: Session, volunteer_id: int, lease_id: UUID) -> LeaseRow:
    """The lease, if there is one and it is this volunteer's. Raises LeaseUnknownError, LeaseForeignError."""
    lease = queries.find_lease(session, lease_id)
    if lease is None:
        raise LeaseUnknownError("Claim a job first; this coordinator never gave out that lease.")
    if lease.volunteer_id != volunteer_id:
        raise LeaseForeignError("Only the volunteer who claimed a job can speak for it.")
    return lease


def check_token(lease: LeaseRow, token: str) -> None:
    """Raises LeaseTokenError for another token than the lease's."""
    if not hmac.compare_digest(lease.token_sha256, hash_token(token)):
        raise LeaseTokenError("Send the token that came with the lease.")


def refuse_ended(stored: LeaseState, expires_at: datetime, moment: datetime) -> None:
    """Raise LeaseEndedError for a lease that is not live any more."""
    effective = state.effective_state(stored, expires_at, moment)
    if effective not in state.LIVE:
        raise LeaseEndedError(f"It is {effective}. A finished run may still be delivered; for more work, claim again.")


def clock_of(lease: LeaseRow) -> LeaseClock:
    """A lease as its transitions see it."""
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


def columns_of(clock: LeaseClock, budget: Budget) -> dict[str, Any]:
    """The columns of a lease that its clock decides."""
    return vars(clock) | {"expires_at": state.expires_at(clock, budget)}
