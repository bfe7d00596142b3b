"""The steps of one job: draft, measure, repair, report. Two threads run them (prefetch.py and loop.py)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from shared.commits import CommitWords
from shared.experiments import Assignment, JobKind, ProposalReply, ProposalSubmission
from shared.findings import FindingDraft
from shared.leases import BaseCommit, CommitUpload, GrantedLease, Phase, ResultUpload
from shared.protocol import Sha, now
from shared.runs import RunOutcome, RunReport
from worker.agents.base import Agent, AgentError, Draft, Task, plain_finding
from worker.api.client import CoordinatorClient, Rejected, UnexpectedReply, Unreachable
from worker.api.retry import retry
from worker.git.projects import RETRY_FOR_SECONDS, LocalProject, Projects
from worker.git.repository import Repository
from worker.loop.heartbeat import LeaseClient, LeaseHeartbeat
from worker.loop.offline import OfflineMode
from worker.loop.outbox import Entry, Outbox
from worker.loop.stop import Stop
from worker.runs.runner import Runner, RunRequest
from worker.runs.spec import RunProgress
from worker.ui.events import EventHandler, ExperimentProposed, JobProgressed, Notice

MAX_DRAFTS = 3
"""Drafts of one job that the coordinator may refuse before the job is given back."""

MAX_REPAIRS = 3
"""Repairs of one job whose run crashed."""

_LEASE_GONE = (404, 410)  # HTTP statuses


class LeaseLost(Exception):
    """The lease is gone and nothing was measured, so there is nothing to finish or to give back."""


class Draining(Exception):
    """The worker was asked to stop or to pause before the run began, so the job is given back."""


@dataclass(frozen=True)
class Workplace:
    """The parts of a worker that its jobs use.

    `author` is the `Name <address>` of its commits; `retry_for_seconds` is how long a request in the middle of a job
    is repeated. Without `offline` a worker waits while the coordinator is away.
    """

    client: CoordinatorClient
    agent: Agent
    runner: Runner
    projects: Projects
    outbox: Outbox
    events: EventHandler
    stop: Stop
    author: str
    retry_for_seconds: float = RETRY_FOR_SECONDS
    offline: OfflineMode | None = None

    def notify(self, text: str) -> None:
        """Show people a line."""
        self.events.handle(Notice(text))

    def warn(self, text: str) -> None:
        """Show people a line that needs their attention."""
        self.events.handle(Notice(text, is_warning=True))

    def client_for(self, lease: GrantedLease) -> LeaseClient:
        """The client for requests about a lease: the coordinator's, or offline mode for a job of the worker's own."""
        if self.offline is not None and self.offline.find_offline(lease.id) is not None:
            return self.offline
        return self.client


@dataclass(frozen=True)
class PlannedExperiment:
    """A drafted experiment: its task, the draft, and the draft's commit."""

    task: Task
    draft: Draft
    commit: CommitUpload


@dataclass
class Job:
    """A lease and the state of its work. One thread at a time uses it.

    `plan` is None for a measurement; `report` is the last run's, `stored` the result's file in the outbox, and `error`
    the reason why there is no result.
    """

    lease: GrantedLease
    heartbeat: LeaseHeartbeat
    project: LocalProject
    files: Mapping[str, str]
    plan: PlannedExperiment | None = None
    report: RunReport | None = None
    stored: Path | None = None
    error: Exception | None = None
    repairs_left: int = MAX_REPAIRS

    @property
    def title(self) -> str:
        """The proposal's title, or the kind and base of a measurement."""
        if self.plan is not None:
            return self.plan.draft.proposal.title
        return f"{self.lease.kind.value} {self.lease.base.sha[:10]}"

    @property
    def editable_files(self) -> dict[str, str]:
        """The editable files of the commit that is measured."""
        files = self.files if self.plan is None else {**self.files, **self.plan.draft.files}
        return {path: files[path] for path in self.project.contract.files.editable if path in files}

    @property
    def needs_repair(self) -> bool:
        """Whether its run crashed and its agent may repair it."""
        crashed = self.report is not None and self.report.outcome is RunOutcome.CRASHED
        return crashed and self.plan is not None and self.repairs_left > 0


def prepare_job(lease: GrantedLease, heartbeat: LeaseHeartbeat, place: Workplace) -> Job:
    """Draft and commit an experiment that the coordinator accepts as new, so that the job needs only the device.

    Raises LeaseLost, Draining, AgentError, AgentFinished, HeartbeatDied, ClientError, CommitError, and OSError of the
    disk.
    """
    project = place.projects.get(lease)
    job = Job(lease, heartbeat, project, place.projects.read_base(lease))
    if lease.kind.makes_experiment:
        task = _describe_task(job, place)
        draft = _draft(job, task, place)
        if isinstance(draft, Draft):
            job.plan = PlannedExperiment(task, draft, _commit(job, draft, place))
        else:
            job = _measure_instead(job, draft, place)
    report_progress(job, RunProgress(Phase.READY, 0, None, 0.0), place)
    return job


def measure_job(job: Job, place: Workplace) -> None:
    """Measure a job's commit on the device. Its result is then on the disk, unless it needs repair.

    Raises LeaseLost, Draining, RunStopped, HeartbeatDied, DataError, and OSError of the disk.
    """
    if place.stop.quiet.is_set():
        raise _draining(place)
    if job.heartbeat.lost is not None and job.report is None:
        raise LeaseLost(job.heartbeat.lost)
    report = place.runner.measure(
        _run_request(job), lambda progress: report_progress(job, progress, place), place.notify, place.stop.interrupt
    )
    if job.heartbeat.lost is not None:
        place.warn(f"{job.heartbeat.lost}; the run was finished, because a first late result is accepted")
    job.report = report
    if not job.needs_repair:
        store_result(job, place)


def repair_job(job: Job, place: Workplace) -> bool:
    """Let the agent repair a job whose run crashed; if it does not, store the result and return False."""
    assert job.plan is not None and job.report is not None
    job.repairs_left -= 1
    report_progress(job, RunProgress(Phase.READY, 0, None, 0.0), place)
    repaired = None if place.stop.quiet.is_set() else _repair(job.plan, job.report, place)
    if repaired is None:
        job.repairs_left = 0
        store_result(job, place)
        return False
    job.plan = PlannedExperiment(job.plan.task, repaired, _commit(job, repaired, place))
    return True


def store_result(job: Job, place: Workplace) -> None:
    """Put the result on the disk with a plain finding, because the agent's own may take a minute."""
    assert job.report is not None
    report_progress(job, RunProgress(Phase.REPORTING, job.report.steps, None, 1.0), place)
    _record_usage(job)
    job.stored = place.outbox.put(_make_entry(job, place, finding=None), held=True)
    if place.outbox.unsaved:
        place.warn(f"the disk is full: the result is in memory only; free some space in {place.outbox.folder}")


def write_finding(job: Job, place: Workplace) -> None:
    """Replace the plain finding by the agent's own, if it has one, and let the result be delivered."""
    assert job.report is not None and job.stored is not None
    finding = _find_finding(place.agent, job.plan, job.report) if job.plan is not None else None
    _record_usage(job)
    place.outbox.release(job.stored, _make_entry(job, place, finding) if finding is not None else None)


def _record_usage(job: Job) -> None:
    """Copy the agent's language model usage so far into the report."""
    assert job.report is not None
    usage = job.plan.task.usage.total if job.plan is not None else None
    if usage is not None and usage.requests:
        job.report = job.report.model_copy(update={"usage": usage})


def report_progress(job: Job, progress: RunProgress, place: Workplace) -> None:
    """Report the progress of a job to the coordinator and to people. Raises HeartbeatDied."""
    job.heartbeat.update(progress)
    place.events.handle(JobProgressed(job.lease, progress))


def _run_request(job: Job) -> RunRequest:
    lease, contract, plan = job.lease, job.project.contract, job.plan
    untouched = job.project.repository.read_files(lease.root_sha)
    if plan is None:
        return RunRequest(contract, lease.base.sha, job.files, lease.seed, untouched=untouched)
    files = {**job.files, **plan.draft.files}
    is_code, curve = plan.draft.is_code, lease.base.curve
    return RunRequest(contract, plan.commit.sha, files, lease.seed, is_code, curve, lease.run_to_end, untouched)


def _make_entry(job: Job, place: Workplace, finding: FindingDraft | None) -> Entry:
    assert job.report is not None
    run, plan = job.report, job.plan
    upload = ResultUpload(run=run)
    if plan is not None:
        finding = finding or plain_finding(plan.task, plan.draft, run, place.agent.name)
        upload = ResultUpload(run=run, commit=plan.commit, proposal=plan.draft.proposal, finding=finding)
    own = place.offline.find_offline(job.lease.id) if place.offline is not None else None
    return Entry(project=job.lease.project, lease_id=job.lease.id, own=own, upload=upload)


def _describe_task(job: Job, place: Workplace) -> Task:
    lease = job.lease
    # The lease's id is part of the agent's seed: two workers with the same base and trials must not draft the same.
    digest = hashlib.sha256(f"{lease.id} {lease.seed}".encode()).digest()
    return Task(
        contract=job.project.contract,
        base=lease.base,
        program=job.project.program,
        context=lease.context,
        trials=tuple(lease.trials),
        seed=int.from_bytes(digest[:4]),
        tree=job.files,
        kind=lease.kind,
        assignment=lease.assignment,
        steps=place.projects.read_steps(lease),
    )


def _draft(job: Job, task: Task, place: Workplace) -> Draft | Sha:
    """A draft that the coordinator accepts as new, in at most MAX_DRAFTS attempts; or the commit to measure instead."""
    reason = ""
    for _ in range(MAX_DRAFTS):
        try:
            draft = place.agent.propose(task)
        except AgentError as error:
            if place.stop.quiet.is_set():  # the stop interrupted it
                raise _draining(place) from error
            raise
        place.events.handle(ExperimentProposed(job.lease, draft.proposal))
        if job.heartbeat.lost is not None:
            raise LeaseLost(job.heartbeat.lost)
        reply = _submit(job.lease, draft, place)
        if reply.accepted:
            return draft
        reason = _explain(reply)
        place.notify(f"{draft.proposal.title}: {reason}")
        if reply.measure is not None:
            return reply.measure
        task = replace(task, refused=(*task.refused, draft), replies=(*task.replies, reply))
    raise AgentError(f"no new idea in {MAX_DRAFTS} drafts; the last: {reason}")


def _submit(lease: GrantedLease, draft: Draft, place: Workplace) -> ProposalReply:
    """The coordinator's reply to a draft, which counts as accepted if there is no answer."""
    submission = ProposalSubmission(
        token=lease.token, proposal=draft.proposal, files=dict(draft.files), may_measure=True
    )
    try:
        client = place.client_for(lease)
        return retry(lambda: client.propose(lease.id, submission), place.stop.quiet, place.retry_for_seconds)
    except (Unreachable, UnexpectedReply) as error:
        if place.stop.quiet.is_set():
            raise _draining(place) from error
        place.warn(f"{error}; continuing without a check whether this was tried before")
        return ProposalReply(accepted=True)
    except Rejected as error:
        if error.status in _LEASE_GONE:
            raise LeaseLost(str(error)) from error
        raise


def _draining(place: Workplace) -> Draining:
    return Draining(place.stop.pause or "the worker is stopping")


def _explain(reply: ProposalReply) -> str:
    """The reason why a draft was refused."""
    known = [str(one.experiment_id) for one in reply.similar if one.experiment_id is not None]
    if reply.duplicate_of is not None:
        known = [str(reply.duplicate_of)]
    which = f" (experiment {', '.join(known)})" if known else ""
    return f"{reply.reason or 'the coordinator knows this already'}{which}"


def _measure_instead(job: Job, sha: Sha, place: Workplace) -> Job:
    """The job, changed to a run of the existing commit that has the drafted code."""
    files = place.client.fetch_editable(job.lease.project, [sha])[sha]
    base = BaseCommit(sha=sha, files=files, posterior=None)
    lease = job.lease.model_copy(update={"kind": JobKind.REPLICATE, "base": base, "assignment": Assignment()})
    place.notify(f"measuring {sha[:10]} instead: it has the same code and needs another run")
    return replace(job, lease=lease, files=place.projects.read_base(lease))


def _commit(job: Job, draft: Draft, place: Workplace) -> CommitUpload:
    return commit_draft(job.project.repository, job.lease.base.sha, draft, place.author)


def _repair(plan: PlannedExperiment, report: RunReport, place: Workplace) -> Draft | None:
    """The repaired draft; None if the agent gives up."""
    try:
        repaired = place.agent.repair(plan.task, plan.draft, report)
    except (AgentError, ValidationError) as error:
        place.notify(f"no repair: {error}")
        return None
    if repaired is not None:
        place.notify(f"crashed ({report.reason or 'no reason given'}); trying a repair")
    return repaired


def _find_finding(agent: Agent, plan: PlannedExperiment, report: RunReport) -> FindingDraft | None:
    """The agent's own finding; None if it has none or an invalid one."""
    try:
        return agent.write_finding(plan.task, plan.draft, report)
    except (AgentError, ValidationError):
        return None


def commit_draft(repository: Repository, parent_sha: str, draft: Draft, author: str) -> CommitUpload:
    """Commit a draft's files on its parent in the worker's repository. Raises OSError, CommitError."""
    words = CommitWords(author, int(now().timestamp()), _describe(draft))
    return CommitUpload(
        sha=repository.commit(parent_sha, draft.files, words),
        parent_sha=parent_sha,
        files=dict(draft.files),
        author=words.author,
        authored_at=words.authored_at,
        message=words.message,
    )


def commit_author(worker_name: str) -> str:
    """The author of a worker's commits, with an address that cannot exist (RFC 2606)."""
    name = "".join(c for c in worker_name if c.isprintable() and c not in "<>").strip() or "worker"
    address = "".join(c if c.isascii() and c.isalnum() else "-" for c in name).lower()
    return f"{name} <{address}@worker.invalid>"


def _describe(draft: Draft) -> str:
    proposal = draft.proposal
    lines = [
        proposal.title,
        "",
        proposal.hypothesis,
        "",
        f"Axis: {proposal.axis}",
        f"Direction: {proposal.direction.value}",
        *([f"Agent: {' '.join(draft.made_by.split())}"] if draft.made_by else []),
    ]
    return "\n".join(lines) + "\n"
