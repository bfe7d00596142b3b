"""One job in its steps: draft, measure, repair, write down. Two threads share them (prefetch.py and loop.py)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from shared.commits import CommitWords
from shared.experiments import Assignment, JobKind, ProposalReply, ProposalSubmission
from shared.findings import FindingDraft
from shared.leases import BaseCommit, CommitUpload, Lease, Phase, ResultUpload
from shared.protocol import Sha, now
from shared.runs import RunOutcome, RunReport
from worker.agents.base import Agent, AgentError, Draft, Task, plain_finding
from worker.api.client import CoordinatorClient, Rejected, UnexpectedReply, Unreachable
from worker.api.retry import insist
from worker.git.projects import PATIENCE_SECONDS, LocalProject, Projects
from worker.git.repository import Repository
from worker.loop.heartbeat import LeaseKeeper, Pulse
from worker.loop.offline import Alone
from worker.loop.outbox import Entry, Outbox
from worker.loop.stop import Stop
from worker.runs.runner import Runner, RunRequest
from worker.runs.spec import RunProgress
from worker.ui.events import EventHandler, ExperimentProposed, JobProgressed, Notice

MAX_DRAFTS = 3
MAX_REPAIRS = 3
_LEASE_GONE = (404, 410)


class LeaseLost(Exception):
    """The lease is gone and nothing was measured yet: there is nothing to finish and nothing to give back."""


class Draining(Exception):
    """The worker was asked to stop or to pause before the run began: the job is given back."""


@dataclass(frozen=True)
class Workplace:
    """All that a job needs.

    `author` is `Name <address>`, under which commits are made; `patience_seconds` is how long a coordinator that does
    not answer is asked again in the middle of a job. Without `alone` a worker waits while the coordinator is away.
    """

    client: CoordinatorClient
    agent: Agent
    runner: Runner
    projects: Projects
    outbox: Outbox
    events: EventHandler
    stop: Stop
    author: str
    patience_seconds: float = PATIENCE_SECONDS
    alone: Alone | None = None

    def notify(self, text: str) -> None:
        """Show people a line."""
        self.events.handle(Notice(text))

    def warn(self, text: str) -> None:
        """Show people a line that needs their attention."""
        self.events.handle(Notice(text, is_warning=True))

    def find_keeper(self, lease: Lease) -> LeaseKeeper:
        """Whom to ask about a job: the coordinator, or nobody but this worker if it gave the job itself."""
        if self.alone is not None and self.alone.own(lease.id) is not None:
            return self.alone
        return self.client


@dataclass(frozen=True)
class Plan:
    """What an experiment is about to try: its task, the draft, and the commit that was made of it."""

    task: Task
    draft: Draft
    commit: CommitUpload


@dataclass
class Job:
    """A lease, and how far the work on it has come. One thread at a time has it in its hands.

    `plan` is None for a measurement; `report` is that of the last run, `stored` the result's place in the outbox, and
    `error` why there is none.
    """

    lease: Lease
    pulse: Pulse
    project: LocalProject
    files: Mapping[str, str]
    plan: Plan | None = None
    report: RunReport | None = None
    stored: Path | None = None
    error: Exception | None = None
    repairs_left: int = MAX_REPAIRS

    @property
    def title(self) -> str:
        """What is tried or measured, in a few words."""
        return (
            f"{self.lease.kind.value} {self.lease.base.sha[:10]}"
            if self.plan is None
            else self.plan.draft.proposal.title
        )

    @property
    def editable_files(self) -> dict[str, str]:
        """The editable files of the commit that is measured."""
        files = self.files if self.plan is None else {**self.files, **self.plan.draft.files}
        return {path: files[path] for path in self.project.contract.files.editable if path in files}

    @property
    def needs_repair(self) -> bool:
        """Whether its run crashed, and its agent may try to mend it."""
        crashed = self.report is not None and self.report.outcome is RunOutcome.CRASHED
        return crashed and self.plan is not None and self.repairs_left > 0


def begin(lease: Lease, pulse: Pulse, place: Workplace) -> Job:
    """Bring a job to where only the device is missing: drafted, found to be new, and committed.

    Raises LeaseLost, Draining, AgentError, AgentFinished, HeartbeatDied, ClientError, CommitError, and OSError of a
    full or broken disk.
    """
    project = place.projects.find(lease)
    job = Job(lease, pulse, project, place.projects.read_base(lease))
    if lease.kind.makes_experiment:
        task = _describe_task(job, place)
        draft = _draft(job, task, place)
        if isinstance(draft, Draft):
            job.plan = Plan(task, draft, _commit(job, draft, place))
        else:
            job = _turn(job, draft, place)
    show(job, RunProgress(Phase.READY, 0, None, 0.0), place)
    return job


def measure(job: Job, place: Workplace) -> None:
    """Measure a job's commit on the device. When this returns, the result is on the disk, unless it needs repair.

    Raises LeaseLost, Draining, RunStopped, HeartbeatDied, DataError, and OSError of the disk.
    """
    if place.stop.quiet.is_set():
        raise _draining(place)
    if job.pulse.lost is not None and job.report is None:
        raise LeaseLost(job.pulse.lost)
    report = place.runner.measure(
        _sample(job), lambda progress: show(job, progress, place), place.notify, place.stop.interrupt
    )
    if job.pulse.lost is not None:
        place.warn(f"{job.pulse.lost}; the run was finished all the same, and a first late result is accepted")
    job.report = report
    if not job.needs_repair:
        store(job, place)


def mend(job: Job, place: Workplace) -> bool:
    """Let the agent mend a job whose run crashed; False, and the result is stored as it is, where it does not."""
    assert job.plan is not None and job.report is not None
    job.repairs_left -= 1
    show(job, RunProgress(Phase.READY, 0, None, 0.0), place)
    repaired = None
    if not place.stop.quiet.is_set():
        repaired = _repair(job.plan, job.report, place)
    if repaired is None:
        job.repairs_left = 0
        store(job, place)
        return False
    job.plan = Plan(job.plan.task, repaired, _commit(job, repaired, place))
    return True


def store(job: Job, place: Workplace) -> None:
    """Put the result on the disk, with a finding in plain words: the agent's own may take a minute."""
    assert job.report is not None
    show(job, RunProgress(Phase.REPORTING, job.report.steps, None, 1.0), place)
    _note_usage(job)
    job.stored = place.outbox.put(_entry(job, place, words=None), held=True)
    if place.outbox.unsaved:
        place.warn(f"the disk is full: the result is in memory only. Make room in {place.outbox.folder}")


def write_up(job: Job, place: Workplace) -> None:
    """Let the agent say what the run showed, in the place of the plain words, and let the result be delivered."""
    assert job.report is not None and job.stored is not None
    words = _find_words(place.agent, job.plan, job.report) if job.plan is not None else None
    _note_usage(job)
    place.outbox.release(job.stored, _entry(job, place, words) if words is not None else None)


def _note_usage(job: Job) -> None:
    """Write what the experiment's agent has asked of a language model so far into its report."""
    assert job.report is not None
    usage = job.plan.task.usage.total if job.plan is not None else None
    if usage is not None and usage.requests:
        job.report = job.report.model_copy(update={"usage": usage})


def show(job: Job, progress: RunProgress, place: Workplace) -> None:
    """Tell the coordinator and people how far the job is. Raises HeartbeatDied."""
    job.pulse.update(progress)
    place.events.handle(JobProgressed(job.lease, progress))


def _sample(job: Job) -> RunRequest:
    lease, contract, plan = job.lease, job.project.contract, job.plan
    untouched = job.project.repository.read_files(lease.root_sha)
    if plan is None:
        return RunRequest(contract, lease.base.sha, job.files, lease.seed, untouched=untouched)
    files = {**job.files, **plan.draft.files}
    is_code, curve = plan.draft.is_code, lease.base.curve
    return RunRequest(contract, plan.commit.sha, files, lease.seed, is_code, curve, lease.run_to_end, untouched)


def _entry(job: Job, place: Workplace, words: FindingDraft | None) -> Entry:
    assert job.report is not None
    run, plan = job.report, job.plan
    upload = ResultUpload(run=run)
    if plan is not None:
        finding = words or plain_finding(plan.task, plan.draft, run, place.agent.name)
        upload = ResultUpload(run=run, commit=plan.commit, proposal=plan.draft.proposal, finding=finding)
    own = place.alone.own(job.lease.id) if place.alone is not None else None
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
    """A draft that the coordinator accepts as new, after at most three attempts; or the commit to measure instead."""
    reason = ""
    for _ in range(MAX_DRAFTS):
        try:
            draft = place.agent.propose(task)
        except AgentError as error:
            if place.stop.quiet.is_set():  # it was told to leave off
                raise _draining(place) from error
            raise
        place.events.handle(ExperimentProposed(job.lease, draft.proposal))
        if job.pulse.lost is not None:
            raise LeaseLost(job.pulse.lost)
        reply = _ask(job.lease, draft, place)
        if reply.accepted:
            return draft
        reason = _explain(reply)
        place.notify(f"{draft.proposal.title}: {reason}")
        if reply.measure is not None:
            return reply.measure
        task = replace(task, refused=(*task.refused, draft), replies=(*task.replies, reply))
    raise AgentError(f"no new idea in {MAX_DRAFTS} drafts; the last: {reason}")


def _ask(lease: Lease, draft: Draft, place: Workplace) -> ProposalReply:
    """What the coordinator says of a draft; where nobody can be asked it counts as accepted."""
    submission = ProposalSubmission(
        token=lease.token, proposal=draft.proposal, files=dict(draft.files), may_measure=True
    )
    try:
        keeper = place.find_keeper(lease)
        return insist(lambda: keeper.propose(lease.id, submission), place.stop.quiet, place.patience_seconds)
    except (Unreachable, UnexpectedReply) as error:
        if place.stop.quiet.is_set():
            raise _draining(place) from error
        place.warn(f"{error}; going on without asking whether this was tried before")
        return ProposalReply(accepted=True)
    except Rejected as error:
        if error.status in _LEASE_GONE:
            raise LeaseLost(str(error)) from error
        raise


def _draining(place: Workplace) -> Draining:
    return Draining(place.stop.pause or "the worker is stopping")


def _explain(reply: ProposalReply) -> str:
    """Why a draft was refused."""
    known = [str(one.experiment_id) for one in reply.similar if one.experiment_id is not None]
    if reply.duplicate_of is not None:
        known = [str(reply.duplicate_of)]
    which = f" (experiment {', '.join(known)})" if known else ""
    return f"{reply.reason or 'the coordinator knows this already'}{which}"


def _turn(job: Job, sha: Sha, place: Workplace) -> Job:
    """The job once it asks for a run of an existing commit, which holds the code that was drafted."""
    files = place.client.fetch_editable(job.lease.project, [sha])[sha]
    base = BaseCommit(sha=sha, files=files, posterior=None)
    lease = job.lease.model_copy(update={"kind": JobKind.REPLICATE, "base": base, "assignment": Assignment()})
    place.notify(f"measuring {sha[:10]} instead: it holds this very code, and its evidence needs another run")
    return replace(job, lease=lease, files=place.projects.read_base(lease))


def _commit(job: Job, draft: Draft, place: Workplace) -> CommitUpload:
    return commit_draft(job.project.repository, job.lease.base.sha, draft, place.author)


def _repair(plan: Plan, report: RunReport, place: Workplace) -> Draft | None:
    """The draft without the mistake that made it crash; None where it is given up."""
    try:
        repaired = place.agent.repair(plan.task, plan.draft, report)
    except (AgentError, ValidationError) as error:
        place.notify(f"no repair: {error}")
        return None
    if repaired is not None:
        place.notify(f"crashed ({report.reason or 'no reason given'}); trying a repair")
    return repaired


def _find_words(agent: Agent, plan: Plan, report: RunReport) -> FindingDraft | None:
    """The agent's own finding, if it has one: an agent without words does not lose the measurement."""
    try:
        return agent.write_finding(plan.task, plan.draft, report)
    except (AgentError, ValidationError):  # no words, or too many
        return None


def commit_draft(repository: Repository, parent_sha: str, draft: Draft, author: str) -> CommitUpload:
    """Commit a draft's files on its parent, in the worker's own repository. Raises OSError, CommitError."""
    words = CommitWords(author, int(now().timestamp()), _describe(draft))
    return CommitUpload(
        sha=repository.commit(parent_sha, draft.files, words),
        parent_sha=parent_sha,
        files=dict(draft.files),
        author=words.author,
        authored_at=words.authored_at,
        message=words.message,
    )


def author_of(worker_name: str) -> str:
    """The author of a worker's commits. The address is one that cannot exist (RFC 2606)."""
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
