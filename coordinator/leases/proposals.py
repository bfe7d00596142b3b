"""A proposal is judged before a GPU is used: has its code been run, or much like it, or is somebody at it now?

Exactly the same code is never run twice as an experiment; its commit may be measured again instead. What is only alike
is shown to the agent, which may insist, with a reason. All that is slow comes before the write transaction.
"""

from typing import Any
from uuid import UUID

from coordinator.db.database import Database
from coordinator.db.engine import Conn
from coordinator.events import service as events
from coordinator.leases import queries, service, state
from coordinator.leases.errors import LeaseTransitionError, StepReportsWrongError
from coordinator.leases.heartbeats import HeldHeartbeats
from coordinator.leases.queries import LeaseRow
from coordinator.leases.state import LeaseClock
from coordinator.lineage import service as lineage
from coordinator.novelty import service as novelty
from coordinator.novelty.service import Duplicate, ProposedCode
from coordinator.novelty.similarity import Similarity
from coordinator.projects import service as projects
from coordinator.selection import service as selection
from shared.contract import Contract
from shared.events import EventKind
from shared.experiments import Assignment, JobKind, Proposal, ProposalReply, ProposalSubmission, SimilarWork
from shared.leases import LeaseState, Phase
from shared.protocol import now

ALIKE = "Much like this was tried, or is tried now. Propose something else, or say why it is worth a run all the same."


def submit_proposal(
    database: Database, held_heartbeats: HeldHeartbeats, similarity: Similarity, bearer: str | None, lease_id: UUID,
    submission: ProposalSubmission,
) -> ProposalReply:  # fmt: skip
    """Judge a proposal, and reserve its code. Raises SwarmError for files that are not allowed."""
    with database.connect() as session:
        seen = service.find_own(session, bearer, lease_id)
        service.check_token(seen, submission.token)
        contract = projects.parse_stored(seen.contract)
        check_steps(seen, submission.proposal)
        lineage.check_files(submission.files, contract.files)
        code = _describe(session, seen, contract, submission)
    code = novelty.embed(code, similarity)  # it may wait for an endpoint, so no transaction is open
    alike: list[SimilarWork] = []
    if code.vector is not None:
        with database.read() as session:  # the index of PostgreSQL is set up for one transaction
            alike = novelty.find_neighbours(session, similarity, seen.project_id, code, lease_id)
    with database.begin() as session:
        novelty.lock_code(session, code)  # before its row, so that no two requests wait for each other
        held_heartbeats.write_of(session, lease_id)
        lease, is_known = queries.lock_with_code(session, lease_id, code)
        service.refuse_stopped(lease)
        return _judge(session, similarity, lease, contract, submission, code, alike, is_known=is_known)


def _judge(
    write: Conn, similarity: Similarity, lease: LeaseRow, contract: Contract, submission: ProposalSubmission,
    code: ProposedCode, alike: list[SimilarWork], *, is_known: bool,
) -> ProposalReply:  # fmt: skip
    clock = service.clock_of(lease)
    service.refuse_ended(clock.state, lease.expires_at, now())
    if lease.state != LeaseState.DRAFTING and lease.proposed_tree_sha == code.tree_sha:
        return _answer_again(lease)
    of_code = write, lease.project_id, code
    is_known = is_known or code.fingerprint == code.parent_fingerprint  # most are not, and nothing more is asked
    holders = novelty.list_holders(*of_code, lease.id) if is_known else []
    duplicate = novelty.find_duplicate(*of_code, holders) if is_known else None
    if duplicate is not None:
        return _refuse_duplicate(write, lease, contract, submission, code, duplicate)
    if not submission.proposal.insists and not JobKind(lease.kind).is_assembled:
        alike = [*(novelty.find_same_idea(*of_code, lease.id) if is_known else []), *alike]
        if alike:
            _refuse(write, lease, service.columns_of(_draft_again(clock), contract.budget))
            return ProposalReply(accepted=False, reason=ALIKE, similar=alike[: novelty.MAX_SHOWN])
    # None of those that still hold it is live any more, or it would have been a duplicate.
    for holder in {holder.id for holder in holders if not holder.is_done}:
        service.expire(write, holder, "Its time ran out, and another worker proposed the same code.")
    _reserve(write, lease, contract, submission, code)
    novelty.remember(write, similarity, lease.project_id, code, lease.id)
    return ProposalReply(accepted=True)


def check_steps(lease: LeaseRow, proposal: Proposal) -> None:
    """Raise StepReportsWrongError unless a proposal reports what became of each step of its lease."""
    asked = {step.experiment_id for step in Assignment.model_validate(lease.assignment or {}).steps}
    told = [step.experiment_id for step in proposal.steps]
    if len(told) != len(asked) or set(told) != asked:
        raise StepReportsWrongError(f"The lease asks for {sorted(asked)}, the proposal tells of {sorted(told)}.")


def _describe(read: Conn, lease: LeaseRow, contract: Contract, submission: ProposalSubmission) -> ProposedCode:
    tree_sha, before = lineage.plan_child(read, lease.base_sha, submission.files, contract.files.editable)
    code = novelty.describe_code(tree_sha, lease.base_sha, submission.proposal, before, submission.files)
    needs_vector = code.idea.is_words_only and not JobKind(lease.kind).is_assembled
    return novelty.add_parts(code, submission.proposal, before, submission.files) if needs_vector else code


def _answer_again(lease: LeaseRow) -> ProposalReply:
    """The stored answer, for a worker that did not get it."""
    if JobKind(lease.kind).makes_experiment:
        return ProposalReply(accepted=True)
    return ProposalReply(accepted=False, measure=lease.base_sha)


def _refuse_duplicate(
    write: Conn, lease: LeaseRow, contract: Contract, submission: ProposalSubmission, code: ProposedCode,
    duplicate: Duplicate,
) -> ProposalReply:  # fmt: skip
    """Tell whose code it is, or have its commit measured if the evidence needs that and the worker is ready for it."""
    sha = duplicate.sha
    needs_run = sha is not None and selection.needs_run(write, contract, lease.hardware_class, sha, lease.volunteer_id)
    if sha is None or not (needs_run and submission.may_measure):
        _refuse(write, lease, service.columns_of(_draft_again(service.clock_of(lease)), contract.budget))
        return ProposalReply(accepted=False, duplicate_of=duplicate.experiment_id, reason=duplicate.reason)
    columns = service.columns_of(_accept(service.clock_of(lease)), contract.budget)
    turned = {
        "kind": JobKind.REPLICATE,
        "base_sha": sha,
        "is_check": False,  # the volunteer chose it
        "why": f"{lease.why} {duplicate.reason} Its evidence needs another run.",
        "assignment": None,
        "proposed_tree_sha": code.tree_sha,
    }
    _refuse(write, lease, columns | turned)
    events.record(write, EventKind.LEASE_PROGRESSED, lease.project_id, lease=str(lease.id), phase=Phase.READY)
    return ProposalReply(accepted=False, duplicate_of=duplicate.experiment_id, reason=duplicate.reason, measure=sha)


def _refuse(write: Conn, lease: LeaseRow, columns: dict[str, Any]) -> None:
    """Change a lease after a proposal that was tried before, and count that."""
    queries.change_lease(write, lease.id, columns | {"refused_proposals": lease.refused_proposals + 1})


def _reserve(
    write: Conn, lease: LeaseRow, contract: Contract, submission: ProposalSubmission, code: ProposedCode
) -> None:
    columns = service.columns_of(_accept(service.clock_of(lease)), contract.budget)
    reserved = {
        "proposal": submission.proposal.model_dump(mode="json"),
        "proposed_tree_sha": code.tree_sha,
        "proposed_fingerprint": code.fingerprint,
        "proposed_idea": code.idea.on_parent,
        "proposed_move": code.idea.move,
    }
    queries.change_lease(write, lease.id, columns | reserved)
    events.record(write, EventKind.LEASE_PROGRESSED, lease.project_id, lease=str(lease.id), phase=Phase.READY)


def _accept(clock: LeaseClock) -> LeaseClock:
    try:
        return state.accept_proposal(clock, now())
    except state.TransitionError as error:
        raise LeaseTransitionError(f"{error}.") from error


def _draft_again(clock: LeaseClock) -> LeaseClock:
    try:
        return state.try_draft_again(clock, now())
    except state.TransitionError as error:
        raise LeaseTransitionError(f"{error}.") from error
