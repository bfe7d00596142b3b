"""A job, and its steps on the device: measured, and its result stored. drafting.py has those that ask the agent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from shared.findings import FindingDraft
from shared.leases import CommitUpload, GrantedLease, Phase, ResultUpload, SeedProbe
from shared.runs import RunOutcome, RunReport
from worker.agents.base import Agent, Draft, Task, plain_finding
from worker.api.client import CoordinatorClient
from worker.git.projects import RETRY_FOR_SECONDS, LocalProject, Projects
from worker.loop.heartbeat import LeaseClient, LeaseHeartbeat
from worker.loop.offline import OfflineMode
from worker.loop.outbox import Entry, Outbox
from worker.loop.stop import Stop
from worker.runs.runner import LocalRunner, RunRequest
from worker.runs.spec import RunProgress
from worker.runs.throughput import SeedThroughputs, read_throughput
from worker.ui.events import EventHandler, JobProgressed, Notice

MAX_REPAIRS = 3
"""Repairs of one job whose run crashed."""

PROBE_SEED = 1

CORRECTED_CLOCK_ERROR = timedelta(seconds=10)
"""Difference from the coordinator's clock from which on the times of results are given by the coordinator's."""


class LeaseLost(Exception):
    """The lease is gone and nothing was measured, so there is nothing to finish or to give back."""


class Draining(Exception):
    """The worker was asked to stop or to pause before the run began, so the job is given back."""


@dataclass(frozen=True)
class WorkerParts:
    """The parts of a worker that its jobs use.

    `worker` is its name, `author` the `Name <address>` of its commits; `retry_for_seconds` is how long a request in the
    middle of a job is repeated; `notes` are the volunteer's, for the agent alone. Without `throughputs` it has the
    contract's budget.
    """

    client: CoordinatorClient
    agent: Agent
    runner: LocalRunner
    projects: Projects
    outbox: Outbox
    events: EventHandler
    stop: Stop
    worker: str
    author: str
    offline: OfflineMode
    retry_for_seconds: float = RETRY_FOR_SECONDS
    throughputs: SeedThroughputs | None = None
    notes: str = ""

    def notify(self, text: str) -> None:
        self.events.handle(Notice(text))

    def warn(self, text: str) -> None:
        """Show people a line that needs their attention."""
        self.events.handle(Notice(text, is_warning=True))

    def client_for(self, lease: GrantedLease) -> LeaseClient:
        """The client for requests about a lease: the coordinator's, or offline mode for a job of the worker's own."""
        return self.client if self.offline.find_offline(lease.id) is None else self.offline


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


def measure_job(job: Job, parts: WorkerParts, find_next: Callable[[], Job | None] = lambda: None) -> None:
    """Measure a job's commit on the device. Its result is then on the disk, unless it needs repair.

    `find_next` returns the job that will be measured after it, once that is ready.

    Raises LeaseLost, Draining, RunStopped, HeartbeatDied, DataError, and OSError of the disk.
    """
    if parts.stop.quiet.is_set():
        raise Draining(parts.stop.reason)
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


def store_result(job: Job, parts: WorkerParts) -> None:
    """Put the result on the disk with a plain finding, because the agent's own may take a minute."""
    assert job.report is not None
    report_progress(job, RunProgress(Phase.REPORTING, job.report.steps, None, 1.0), parts)
    _record_usage(job)
    job.stored = parts.outbox.put(_make_entry(job, parts, finding=None), held=True)
    if parts.outbox.unsaved:
        parts.warn(f"the disk is full: the result is in memory only; free some space in {parts.outbox.folder}")


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
    run, own = job.report, parts.offline.find_offline(lease.id)
    if abs(error) >= CORRECTED_CLOCK_ERROR:
        times = {"started_at": run.started_at - error, "finished_at": run.finished_at - error}
        run = run.model_copy(update=times)
        own = own.model_copy(update={"issued_at": own.issued_at - error}) if own is not None else None
    upload = ResultUpload(run=run)
    if plan is not None:
        finding = finding or plain_finding(plan.task, plan.draft, run)
        proposal = plan.draft.proposal
        if job.own_id is not None:
            # As a job that the worker gave itself, which asks for no steps of others.
            own, proposal = parts.offline.describe(lease), proposal.model_copy(update={"steps": []})
        upload = ResultUpload(run=run, commit=plan.commit, proposal=proposal, finding=finding)
    return Entry(project=lease.project, lease_id=job.own_id or lease.id, own=own, upload=upload)
