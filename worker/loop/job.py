"""The steps of one job: draft, measure, repair, report. Two threads run them (prefetch.py and loop.py)."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

from pydantic import ValidationError

from shared.commits import CommitWords
from shared.experiments import Assignment, JobKind, ProposalReply, ProposalSubmission
from shared.findings import FindingDraft
from shared.leases import BaseCommit, CommitUpload, GrantedLease, OfflineLease, Phase, ResultUpload, SeedProbe
from shared.protocol import Sha, clean_text, now
from shared.runs import RunOutcome, RunReport
from worker.agents.base import Agent, AgentError, AgentInterrupted, Draft, Task, plain_finding
from worker.api.client import CoordinatorClient, Rejected, UnexpectedReply, Unreachable
from worker.api.retry import retry
from worker.git.projects import RETRY_FOR_SECONDS, LocalProject, Projects
from worker.loop.heartbeat import LeaseClient, LeaseHeartbeat
from worker.loop.offline import OfflineMode
from worker.loop.outbox import Entry, Outbox
from worker.loop.stop import Stop
from worker.runs.runner import Runner, RunRequest
from worker.runs.spec import RunProgress
from worker.runs.throughput import SeedThroughputs, read_throughput
from worker.ui.events import EventHandler, ExperimentProposed, JobProgressed, Notice

MAX_DRAFTS = 5
"""Drafts of one job that the coordinator may refuse before the job is given back: the agent's and its substitute's."""

MAX_REPAIRS = 3
"""Repairs of one job whose run crashed."""

PROBE_SEED = 1

CORRECTED_CLOCK_ERROR = timedelta(seconds=10)
"""Difference from the coordinator's clock from which on the times of results are given by the coordinator's."""

_LEASE_GONE = (404, 410)  # HTTP statuses


class LeaseLost(Exception):
    """The lease is gone and nothing was measured, so there is nothing to finish or to give back."""


class Draining(Exception):
    """The worker was asked to stop or to pause before the run began, so the job is given back."""


@dataclass(frozen=True)
class WorkerParts:
    """The parts of a worker that its jobs use.

    `worker` is its name, `author` the `Name <address>` of its commits; `retry_for_seconds` is how long a request in the
    middle of a job is repeated; `notes` are the volunteer's, for the agent alone. Without `offline` a worker waits
    while the coordinator is away, and without `throughputs` it has the contract's budget.
    """

    client: CoordinatorClient
    agent: Agent
    runner: Runner
    projects: Projects
    outbox: Outbox
    events: EventHandler
    stop: Stop
    worker: str
    author: str
    retry_for_seconds: float = RETRY_FOR_SECONDS
    offline: OfflineMode | None = None
    throughputs: SeedThroughputs | None = None
    notes: str = ""

    def notify(self, text: str) -> None:
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
    the reason why there is no result. With `own_id` nobody answered the proposal: the result is delivered under a lease
    of the worker's own with this id, as one from offline mode is. A spare was drafted by the agent's substitute.
    """

    lease: GrantedLease
    heartbeat: LeaseHeartbeat
    project: LocalProject
    files: Mapping[str, str]
    plan: PlannedExperiment | None = None
    report: RunReport | None = None
    stored: Path | None = None
    finding: FindingDraft | None = None
    error: Exception | None = None
    own_id: UUID | None = None
    repairs_left: int = MAX_REPAIRS
    is_spare: bool = False

    @property
    def title(self) -> str:
        if self.plan is not None:
            return self.plan.draft.proposal.title
        where = f" on {self.lease.rung}" if self.lease.rung else ""
        return f"{self.lease.kind.value} {self.lease.base.sha[:10]}{where}"

    @property
    def editable_files(self) -> dict[str, str]:
        """The editable files of the commit that is measured."""
        files = self.files if self.plan is None else {**self.files, **self.plan.draft.files}
        return {path: files[path] for path in self.project.contract.files.editable if path in files}

    @property
    def needs_repair(self) -> bool:
        crashed = self.report is not None and self.report.outcome is RunOutcome.CRASHED
        return crashed and self.plan is not None and self.repairs_left > 0


def prepare_job(lease: GrantedLease, heartbeat: LeaseHeartbeat, parts: WorkerParts) -> Job:
    """Draft and commit an experiment that the coordinator accepts as new, so that the job needs only the device.

    Raises LeaseLost, Draining, AgentError, AgentFinished, HeartbeatDied, ClientError, CommitError, and OSError of the
    disk.
    """
    project = parts.projects.get(lease)
    job = Job(lease, heartbeat, project, parts.projects.read_base(lease))
    if lease.kind.makes_experiment:
        task = _describe_task(job, parts)
        draft = _draft(job, task, parts)
        if isinstance(draft, Draft):
            job.plan = PlannedExperiment(task, draft, _commit(job, draft, parts))
        else:
            job = _measure_instead(job, draft, parts)
    report_progress(job, RunProgress(Phase.READY, 0, None, 0.0), parts)
    return job


def measure_job(job: Job, parts: WorkerParts, find_next: Callable[[], Job | None] = lambda: None) -> None:
    """Measure a job's commit on the device. Its result is then on the disk, unless it needs repair.

    `find_next` returns the job that will be measured after it, once that is ready.

    Raises LeaseLost, Draining, RunStopped, HeartbeatDied, DataError, and OSError of the disk.
    """
    if parts.stop.quiet.is_set():
        raise _draining(parts)
    if job.heartbeat.lost is not None and job.report is None:
        raise LeaseLost(job.heartbeat.lost)
    if parts.throughputs is not None and parts.throughputs.is_due(job.lease.root_sha):
        probe_seed(SeedProbe(project=job.lease.project, root_sha=job.lease.root_sha), parts)

    def describe_next() -> RunRequest | None:
        following = find_next()
        return None if following is None else _run_request(following)

    report = parts.runner.measure(
        _run_request(job),
        lambda progress: report_progress(job, progress, parts),
        parts.notify,
        parts.stop.interrupt,
        describe_next,
    )
    if job.heartbeat.lost is not None:
        parts.warn(f"{job.heartbeat.lost}; the run was finished, because a first late result is accepted")
    job.report = report
    if parts.throughputs is not None and report.commit_sha == job.lease.root_sha and job.lease.rung is None:
        parts.throughputs.add(job.lease.root_sha, read_throughput(report))
    if not job.needs_repair:
        store_result(job, parts)


def probe_seed(probe: SeedProbe, parts: WorkerParts) -> None:
    """Try for some seconds how fast a project's seed runs, and keep it. Raises as `measure_job`, and ClientError."""
    if parts.throughputs is None:
        return
    project = parts.projects.get(probe)
    files = project.repository.read_files(probe.root_sha)
    request = RunRequest(project.contract, probe.root_sha, files, PROBE_SEED, untouched=files)
    parts.throughputs.add(probe.root_sha, parts.runner.probe(request, parts.notify, parts.stop.interrupt))


def repair_job(job: Job, parts: WorkerParts) -> bool:
    """Let the agent repair a job whose run crashed; if it does not, store the result and return False."""
    assert job.plan is not None and job.report is not None
    job.repairs_left -= 1
    report_progress(job, RunProgress(Phase.READY, 0, None, 0.0), parts)
    repaired = None
    if not parts.stop.quiet.is_set():
        try:
            repaired = parts.agent.repair(job.plan.task, job.plan.draft, job.report)
        except (AgentError, ValidationError) as error:
            parts.notify(f"no repair: {error}")
    if repaired is None:
        job.repairs_left = 0
        store_result(job, parts)
        return False
    parts.notify(f"crashed ({job.report.reason or 'no reason given'}); trying a repair")
    job.plan = PlannedExperiment(job.plan.task, repaired, _commit(job, repaired, parts))
    return True


def store_result(job: Job, parts: WorkerParts) -> None:
    """Put the result on the disk with a plain finding, because the agent's own may take a minute."""
    assert job.report is not None
    report_progress(job, RunProgress(Phase.REPORTING, job.report.steps, None, 1.0), parts)
    _record_usage(job)
    job.stored = parts.outbox.put(_make_entry(job, parts, finding=None), held=True)
    if parts.outbox.unsaved:
        parts.warn(f"the disk is full: the result is in memory only; free some space in {parts.outbox.folder}")


def write_finding(job: Job, parts: WorkerParts) -> None:
    """Let the agent write the finding of a measured job."""
    assert job.report is not None
    if job.plan is not None:
        try:
            job.finding = parts.agent.write_finding(job.plan.task, job.plan.draft, job.report)
        except AgentInterrupted:
            return
        except (AgentError, ValidationError) as error:
            parts.notify(f"no paper by {job.plan.draft.agent}, so a plain one is sent: {' '.join(str(error).split())}")


def release_result(job: Job, parts: WorkerParts) -> None:
    """Let the result be delivered, with the agent's own finding in place of the plain one, if it has one."""
    assert job.stored is not None
    _record_usage(job)
    parts.outbox.release(job.stored, _make_entry(job, parts, job.finding) if job.finding is not None else None)


def _record_usage(job: Job) -> None:
    """Copy the agent's language model usage so far into the report."""
    assert job.report is not None
    usage = job.plan.task.usage.total if job.plan is not None else None
    if usage is not None and usage.requests:
        job.report = job.report.model_copy(update={"usage": usage})


def report_progress(job: Job, progress: RunProgress, parts: WorkerParts) -> None:
    """Report the progress of a job to the coordinator and to people. Raises HeartbeatDied."""
    job.heartbeat.update(progress)
    parts.events.handle(JobProgressed(job.lease, progress))


def _run_request(job: Job) -> RunRequest:
    lease, contract, plan = job.lease, job.project.contract, job.plan
    untouched = job.project.repository.read_files(lease.root_sha)
    if plan is None:
        return RunRequest(
            contract, lease.base.sha, job.files, lease.seed, untouched=untouched, holdout_key=lease.holdout_key,
            pace=lease.pace, rung=lease.rung,
        )  # fmt: skip
    files = {**job.files, **plan.draft.files}
    is_code, curve = plan.draft.is_code, lease.base.curve
    return RunRequest(
        contract, plan.commit.sha, files, lease.seed, is_code, curve, lease.run_to_end, untouched, pace=lease.pace
    )


def _make_entry(job: Job, parts: WorkerParts, finding: FindingDraft | None) -> Entry:
    assert job.report is not None
    lease, plan, error = job.lease, job.plan, timedelta(seconds=parts.client.clock_error_seconds)
    run, own = job.report, parts.offline.find_offline(lease.id) if parts.offline is not None else None
    if abs(error) >= CORRECTED_CLOCK_ERROR:
        times = {"started_at": run.started_at - error, "finished_at": run.finished_at - error}
        run = run.model_copy(update=times)
        own = own.model_copy(update={"issued_at": own.issued_at - error}) if own is not None else None
    upload = ResultUpload(run=run)
    if plan is not None:
        finding = finding or plain_finding(plan.task, plan.draft, run)
        proposal = plan.draft.proposal
        if job.own_id is not None:
            own, proposal = _describe_own(job, parts), proposal.model_copy(update={"steps": []})
        upload = ResultUpload(run=run, commit=plan.commit, proposal=proposal, finding=finding)
    return Entry(project=lease.project, lease_id=job.own_id or lease.id, own=own, upload=upload)


def _describe_own(job: Job, parts: WorkerParts) -> OfflineLease:
    """The job as one that the worker gave itself. It asks for no steps of others."""
    lease = job.lease
    return OfflineLease(
        token=lease.token,
        worker=parts.worker,
        agent=parts.agent.name,
        hardware=parts.runner.hardware,
        project=lease.project,
        base_sha=lease.base.sha,
        seed=lease.seed,
        issued_at=lease.issued_at,
    )


def _describe_task(job: Job, parts: WorkerParts) -> Task:
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
        steps=parts.projects.read_steps(lease),
        notes=parts.notes,
        show_activity=lambda step: report_progress(job, RunProgress(Phase.DRAFTING, step, None, 0.0), parts),
    )


def _draft(job: Job, task: Task, parts: WorkerParts) -> Draft | Sha:
    """A draft that the coordinator accepts as new, in at most MAX_DRAFTS attempts; or the commit to measure instead."""
    reason = ""
    for _ in range(MAX_DRAFTS):
        try:
            draft = parts.agent.propose(task)
        except AgentError as error:
            if parts.stop.quiet.is_set():  # the stop interrupted it
                raise _draining(parts) from error
            raise
        parts.events.handle(ExperimentProposed(job.lease, draft.proposal, draft.agent))
        if job.heartbeat.lost is not None:
            raise LeaseLost(job.heartbeat.lost)
        reply = _submit(job.lease, draft, parts)
        if reply is None:
            job.own_id = uuid4()
            return draft
        if reply.accepted:
            return draft
        reason = _explain(reply)
        parts.notify(f"{draft.proposal.title}: {reason}")
        if reply.measure is not None:
            return reply.measure
        task = replace(task, refused=(*task.refused, draft), replies=(*task.replies, reply))
    raise AgentError(f"no new idea in {MAX_DRAFTS} drafts; the last: {reason}")


def _submit(lease: GrantedLease, draft: Draft, parts: WorkerParts) -> ProposalReply | None:
    """The coordinator's reply to a draft, None if there is no answer: the job goes on all the same."""
    submission = ProposalSubmission(
        token=lease.token, proposal=draft.proposal, files=dict(draft.files), may_measure=True
    )
    try:
        client = parts.client_for(lease)
        return retry(lambda: client.propose(lease.id, submission), parts.stop.quiet, parts.retry_for_seconds)
    except (Unreachable, UnexpectedReply) as error:
        if parts.stop.quiet.is_set():
            raise _draining(parts) from error
        parts.warn(f"{error}; continuing without a check whether this was tried before")
        return None
    except Rejected as error:
        if error.status in _LEASE_GONE:
            raise LeaseLost(str(error)) from error
        raise


def _draining(parts: WorkerParts) -> Draining:
    return Draining(parts.stop.pause or "the worker is stopping")


def _explain(reply: ProposalReply) -> str:
    """The reason why a draft was refused."""
    known = [str(one.experiment_id) for one in reply.similar if one.experiment_id is not None]
    if reply.duplicate_of is not None:
        known = [str(reply.duplicate_of)]
    which = f" (experiment {', '.join(known)})" if known else ""
    return f"{reply.reason or 'the coordinator knows this already'}{which}"


def _measure_instead(job: Job, sha: Sha, parts: WorkerParts) -> Job:
    """The job, changed to a run of the existing commit that has the drafted code."""
    files = parts.client.fetch_editable(job.lease.project, [sha])[sha]
    base = BaseCommit(sha=sha, files=files, posterior=None)
    lease = job.lease.model_copy(update={"kind": JobKind.REPLICATE, "base": base, "assignment": Assignment()})
    parts.notify(f"measuring {sha[:10]} instead: it has the same code and needs another run")
    return replace(job, lease=lease, files=parts.projects.read_base(lease))


def _commit(job: Job, draft: Draft, parts: WorkerParts) -> CommitUpload:
    """Commit a draft's files on its parent in the worker's repository. Raises OSError, CommitError."""
    proposal = draft.proposal
    message = clean_text(
        f"{proposal.title}\n\n{proposal.hypothesis}\n\n"
        f"Axis: {proposal.axis}\nDirection: {proposal.direction.value}\nAgent: {' '.join(draft.made_by.split())}\n"
    )
    words = CommitWords(parts.author, int(now().timestamp()), message)
    parent_sha = job.lease.base.sha
    return CommitUpload(
        sha=job.project.repository.commit(parent_sha, draft.files, words),
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
