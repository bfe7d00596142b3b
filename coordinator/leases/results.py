"""Delivery of a result: commit, run and finding land in one transaction, or not at all, and once.

A lease takes one result. It is known by its key (the run's own id): the same key and body again get the stored answer;
anything else is a conflict. Objects are built and compared before the write transaction begins.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from coordinator.db.database import Database
from coordinator.db.engine import Conn, objects_of
from coordinator.events import service as events
from coordinator.evidence import confirmations, promotions
from coordinator.evidence import service as evidence
from coordinator.evidence.epochs import RunOrigin
from coordinator.evidence.posteriors import DerivedPosterior
from coordinator.experiments import service as experiments
from coordinator.experiments.lookup import find_experiment_by_commit
from coordinator.findings import service as findings
from coordinator.findings.service import FindingOrigin
from coordinator.leases import queries, service, state
from coordinator.leases.errors import ResultConflictError, ResultUnfitError, WrongCommitError
from coordinator.leases.heartbeats import HeldHeartbeats
from coordinator.leases.proposals import check_steps
from coordinator.leases.queries import KnownOfResult, LeaseRow
from coordinator.leases.validation import LeaseTerms, ResultRefused, hold_to_lease
from coordinator.lineage import service as lineage
from coordinator.lineage.commits import CommitRow, get_commit
from coordinator.lineage.service import BuiltCommit, CommitMismatchError
from coordinator.models import Project
from coordinator.novelty import service as novelty
from coordinator.novelty.service import ProposedCode
from coordinator.projects import service as projects
from coordinator.selection.branch_updates import NewExperiment, follow, follow_measurement
from coordinator.workers.lookup import lock_workers
from shared.commits import CommitWords
from shared.contract import Contract
from shared.events import EventKind
from shared.experiments import JobKind, Proposal, StepFate
from shared.leases import CommitUpload, Phase, ResultReply, ResultUpload
from shared.protocol import now

HELD_COLUMNS = ("step", "share", "heartbeat_at", "progressed_at")
"""Columns in which a held heartbeat may be newer than its lease's row."""


@dataclass(frozen=True)
class Delivery:
    """A reply, and whether the result is new or was stored before."""

    reply: ResultReply
    is_new: bool


def deliver(
    database: Database, held_heartbeats: HeldHeartbeats, bearer: str | None, lease_id: UUID, upload: ResultUpload
) -> Delivery:
    """Store a result once. Raises a SwarmError, with nothing stored, for a result that does not fit its lease."""
    with database.connect() as session:
        seen = service.find_own(session, bearer, lease_id)
        contract = projects.parse_stored(seen.contract)
        built = _build(session, seen, contract, upload)
        other = _describe_other(session, seen, contract, upload, built)
    # Of what the body says: another version of the worker, or a proxy, may write the same in another way.
    body_sha256 = sha256(upload.model_dump_json().encode()).hexdigest()
    with database.begin() as session:
        lease, known = queries.lock_with_result(session, lease_id, upload.run.id, built.sha if built else "")
        service.refuse_stopped(lease)
        stored = _find_stored(lease, upload.run.id, body_sha256)
        if stored is not None:
            return Delivery(stored, is_new=False)
        held = _hold_to_lease(session, lease, contract, upload, other)
        reply = _store(session, lease, known, contract, held, built)
        result: dict[str, Any] = {
            "result_key": upload.run.id,
            "result_sha256": body_sha256,
            "result_reply": reply.model_dump(mode="json"),
        }
        heard = held_heartbeats.find(lease_id, service.clock_of(lease))
        if heard is not None and lease.state in state.LIVE:  # so the end of the lease writes it
            lease = lease._replace(**{name: getattr(heard.clock, name) for name in HELD_COLUMNS})
            result["loss"] = heard.loss
        service.finish(session, lease, result)
    held_heartbeats.forget(lease_id)
    return Delivery(reply, is_new=True)


def _build(session: Conn, lease: LeaseRow, contract: Contract, upload: ResultUpload) -> BuiltCommit | None:
    """The commit that the upload describes, checked against the sha that its worker built. None for a measurement."""
    if not JobKind(lease.kind).makes_experiment:
        if upload.commit is not None or upload.run.commit_sha != lease.base_sha:
            raise WrongCommitError(f"This lease asks for a measurement of {lease.base_sha} and nothing else.")
        return None
    if upload.commit is None:
        raise WrongCommitError("This lease asks for an experiment: send commit, proposal and finding with the run.")
    if upload.commit.parent_sha != lease.base_sha:
        raise WrongCommitError(f"The commit's parent must be {lease.base_sha}, which the lease names.")
    assert upload.proposal is not None
    check_steps(lease, upload.proposal)
    lineage.check_files(upload.commit.files, contract.files)
    built = lineage.build_child(
        session, get_commit(session, lease.base_sha), upload.commit.files, _words(upload.commit)
    )
    if built.sha != upload.commit.sha:
        raise CommitMismatchError(f"The files and words give {built.sha}, the upload says {upload.commit.sha}.")
    return built


def _describe_other(
    session: Conn, lease: LeaseRow, contract: Contract, upload: ResultUpload, built: BuiltCommit | None
) -> ProposedCode | None:
    """The code of a commit that is not the proposed one, as after the repair of a crash. None if it is."""
    if built is None or built.tree_sha == lease.proposed_tree_sha:
        return None
    assert upload.commit is not None and upload.proposal is not None
    files = upload.commit.files
    tree_sha, before = lineage.plan_child(session, lease.base_sha, files, contract.files.editable)
    return novelty.describe_code(tree_sha, lease.base_sha, upload.proposal, before, files)


def _hold_to_lease(
    session: Conn, lease: LeaseRow, contract: Contract, upload: ResultUpload, other: ProposedCode | None
) -> ResultUpload:
    has_proposal = lease.proposed_tree_sha is not None
    duplicate = None
    if other is not None and has_proposal:
        holders = novelty.list_holders(session, lease.project_id, other, lease.id)
        duplicate = novelty.find_duplicate(session, lease.project_id, other, holders)
    terms = LeaseTerms(
        JobKind(lease.kind), Phase(lease.phase), lease.seed, lease.hardware_class, lease.issued_at, has_proposal,
        duplicate.reason if duplicate else "", pace=lease.pace, expected_speed=_expect_speed(session, lease),
        rung=lease.rung,
    )  # fmt: skip
    if terms.is_own:
        lock_workers(session, lease.volunteer_id)  # their results are judged one after the other
        seconds = upload.run.seconds
        middle = upload.run.started_at + timedelta(seconds=seconds.starting + seconds.training / 2)
        terms = replace(terms, worker_time=queries.read_worker_time(session, lease, middle))
    try:
        run = hold_to_lease(terms, contract, upload.run, now())
    except ResultRefused as error:
        raise ResultUnfitError(error.field, str(error)) from error
    return upload.model_copy(update={"run": run})


def _expect_speed(session: Conn, lease: LeaseRow) -> float | None:
    """How many tokens (or steps) a second a measurement should see on its worker, by the worker's own probe."""
    if lease.rung is not None:  # both runs of its pair have one pace, and a rung may have another size
        return None
    if lease.pace <= 1 or lease.seed_throughput is None or JobKind(lease.kind).makes_experiment:
        return None
    is_seed = find_experiment_by_commit(session, lease.base_sha) is None
    relative = 1.0 if is_seed else queries.find_relative_speed(session, lease)
    return None if relative is None else relative * lease.seed_throughput


def _words(commit: CommitUpload) -> CommitWords:
    return CommitWords(commit.author, commit.authored_at, commit.message)


def _find_stored(lease: LeaseRow, key: UUID, body_sha256: str) -> ResultReply | None:
    if lease.result_key is None:
        return None
    if (lease.result_key, lease.result_sha256) != (key, body_sha256):
        raise ResultConflictError("This lease has its result, and it is not this one.")
    return ResultReply.model_validate(lease.result_reply)


def _store(
    session: Conn, lease: LeaseRow, known: KnownOfResult, contract: Contract, upload: ResultUpload,
    built: BuiltCommit | None,
) -> ResultReply:  # fmt: skip
    run = upload.run
    if known.has_run:
        raise ResultConflictError("A run of this id was delivered for another lease.")
    if known.has_commit:
        raise ResultConflictError("This very commit was delivered before, for another lease.")
    if built is not None:
        commit, made = _store_commit(session, lease, upload, built), None
        experiment_id: int | None = _store_experiment(session, lease, upload, commit)
    else:  # a measurement belongs to the experiment that made the commit; the root was made by none
        commit = None
        made = find_experiment_by_commit(session, lease.base_sha)
        experiment_id = made.id if made else None
    kind, is_check = JobKind(lease.kind), lease.is_check
    origin = RunOrigin(
        lease.project_id, lease.worker_id, lease.id, kind, experiment_id, is_check=is_check,
        pace=lease.pace, seed_throughput=lease.seed_throughput, rung=lease.rung,
    )  # fmt: skip
    stored = evidence.store_run(session, contract, origin, run, commit)
    run_id, posterior = stored.id, stored.posterior
    if not kind.is_evidence:
        with objects_of(session) as objects:
            project, of_class = objects.get_one(Project, lease.project_id), run.hardware.hardware_class
            if kind == JobKind.CONFIRM:
                confirmations.check_holdout(objects, project, of_class, run.commit_sha)
            promotions.refresh(objects, project, of_class, run.commit_sha)
    elif made is not None and posterior is not None:
        follow_measurement(session, contract, made, lease.volunteer, run.hardware.hardware_class, posterior)
    if built is not None and experiment_id is not None:
        assert upload.proposal is not None and upload.finding is not None
        pace = evidence.measure_pace(session, lease.base_sha, lease.worker_id, run)
        finding = FindingOrigin(lease.project_id, experiment_id, upload.proposal, run, posterior, pace)
        findings.store_finding(session, finding, upload.finding)
        findings.cite(session, experiment_id, known.findings_read)
        _follow(session, contract, lease, upload, experiment_id, posterior)
    events.record(
        session, EventKind.RUN_STORED, lease.project_id, run=run_id, experiment=experiment_id, outcome=run.outcome,
        metric=run.metric,
    )  # fmt: skip
    return ResultReply(
        run_id=run_id, run_uuid=run.id, experiment_id=experiment_id, posterior=posterior.view() if posterior else None,
        url=f"/runs/{run_id}" if experiment_id is None else f"/experiments/{experiment_id}",
    )  # fmt: skip


def _store_commit(session: Conn, lease: LeaseRow, upload: ResultUpload, built: BuiltCommit) -> CommitRow:
    assert upload.proposal is not None
    return lineage.store_commit(session, lease.project_id, built, steps=_count_steps(lease, upload.proposal))


def _store_experiment(session: Conn, lease: LeaseRow, upload: ResultUpload, made: CommitRow) -> int:
    assert upload.proposal is not None and made.parent_sha is not None
    return experiments.store_experiment(
        session, project_id=lease.project_id, sha=made.sha, parent_sha=made.parent_sha, lease_id=lease.id,
        worker_id=lease.worker_id, branch_id=lease.branch_id, kind=JobKind(lease.kind), why=lease.why,
        proposal=upload.proposal, done_at=now(),
    )  # fmt: skip


def _count_steps(lease: LeaseRow, proposal: Proposal) -> int:
    """How many steps an experiment takes at once."""
    if JobKind(lease.kind) not in (JobKind.ADOPT, JobKind.COMBINE):
        return 1
    return max(1, sum(step.fate == StepFate.DONE for step in proposal.steps))


def _follow(
    session: Conn, contract: Contract, lease: LeaseRow, upload: ResultUpload, experiment_id: int,
    posterior: DerivedPosterior | None,
) -> None:  # fmt: skip
    """Let branches, and people, know of a new experiment."""
    assert upload.proposal is not None
    new = NewExperiment(
        experiment_id, lease.project_id, lease.branch_id, upload.run.commit_sha, JobKind(lease.kind),
        upload.run.hardware.hardware_class, upload.proposal, lease.volunteer, lease.volunteer_id,
    )  # fmt: skip
    follow(session, contract, new, posterior)
    done = [step.experiment_id for step in upload.proposal.steps if step.fate == StepFate.DONE]
    if new.kind in (JobKind.ADOPT, JobKind.COMBINE) and done:
        events.record(
            session, EventKind.STEPS_ADOPTED, lease.project_id, experiment=experiment_id, steps=done,
            by=lease.volunteer, why=lease.why,
        )  # fmt: skip
