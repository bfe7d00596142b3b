"""One job, from the lease to a result that is safe on the disk: draft, commit, measure, write down."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import ValidationError

from shared.commits import CommitWords
from shared.experiments import ProposalSubmission
from shared.findings import FindingDraft
from shared.leases import Lease, Phase
from shared.protocol import now
from shared.results import CommitUpload, ResultUpload
from shared.runs import RunOutcome, RunReport
from worker.agents.base import Agent, AgentError, Draft, Task, plain_finding
from worker.client import CoordinatorClient, Rejected, UnexpectedReply, Unreachable
from worker.heartbeat import Pulse
from worker.laboratory import Laboratory, Sample
from worker.monitor import Monitor
from worker.outbox import Entry, Outbox
from worker.projects import PATIENCE_SECONDS, LocalProject, Projects
from worker.retries import insist
from worker.stopping import Stop
from worker.training import Progress

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
    not answer is asked again in the middle of a job.
    """

    client: CoordinatorClient
    agent: Agent
    laboratory: Laboratory
    projects: Projects
    outbox: Outbox
    monitor: Monitor
    stop: Stop
    author: str
    patience_seconds: float = PATIENCE_SECONDS


@dataclass(frozen=True)
class Finished:
    """A job's result, stored in the outbox, and what was tried in a few words."""

    lease: Lease
    project: LocalProject
    report: RunReport
    title: str


def carry_out(lease: Lease, place: Workplace) -> Finished:
    """Do a job. When this returns, its result is on the disk.

    Raises LeaseLost, Draining, RunStopped, AgentError, AgentFinished, HeartbeatDied, ClientError, DataError, and
    OSError of a full or broken disk; after any of them but LeaseLost the lease is to be given back.
    """
    with Pulse(place.client, lease) as pulse:
        project = place.projects.find(lease)
        files = place.projects.read_base(lease)
        if lease.kind.makes_experiment:
            return _experiment(lease, project, files, place, pulse)
        _show(Progress(Phase.READY, 0, None, 0.0), place, pulse)
        report = _measure(Sample(project.contract, lease.base.sha, files, lease.seed), place, pulse)
        _show(Progress(Phase.REPORTING, report.steps, None, 1.0), place, pulse)
        place.outbox.put(Entry(project=lease.project, lease_id=lease.id, upload=ResultUpload(run=report)))
        return Finished(lease, project, report, f"{lease.kind.value} {lease.base.sha[:10]}")


def _experiment(
    lease: Lease, project: LocalProject, files: Mapping[str, str], place: Workplace, pulse: Pulse
) -> Finished:
    """Draft, measure, mend what crashed, and write down."""
    task = _describe_task(lease, project, files)
    draft = _draft(lease, task, place, pulse)
    _show(Progress(Phase.READY, 0, None, 0.0), place, pulse)
    for repairs_left in range(MAX_REPAIRS, -1, -1):
        commit = _commit(lease, project, draft, place.author)
        report = _measure(Sample(project.contract, commit.sha, {**files, **draft.files}, lease.seed), place, pulse)
        repaired = _repair(task, draft, report, place) if repairs_left else None
        if repaired is None:
            break
        draft = repaired
    _show(Progress(Phase.REPORTING, report.steps, None, 1.0), place, pulse)
    finding = plain_finding(task, draft, report, place.agent.name)
    upload = ResultUpload(run=report, commit=commit, proposal=draft.proposal, finding=finding)
    entry = Entry(project=lease.project, lease_id=lease.id, upload=upload)
    path = place.outbox.put(entry)  # before the agent looks for words, which may take a minute
    if words := _find_words(place.agent, task, draft, report):
        better = upload.model_copy(update={"finding": words})
        place.outbox.replace(path, entry.model_copy(update={"upload": better}))
    return Finished(lease, project, report, draft.proposal.title)


def _describe_task(lease: Lease, project: LocalProject, files: Mapping[str, str]) -> Task:
    # The lease's id is part of the agent's seed: two workers with the same base and trials must not draft the same.
    digest = hashlib.sha256(f"{lease.id} {lease.seed}".encode()).digest()
    return Task(
        contract=project.contract,
        base=lease.base,
        program=project.program,
        context=lease.context,
        trials=tuple(lease.trials),
        seed=int.from_bytes(digest[:4]),
        tree=files,
    )


def _draft(lease: Lease, task: Task, place: Workplace, pulse: Pulse) -> Draft:
    """A draft that the coordinator accepts as new, after at most three attempts."""
    reason = ""
    for _ in range(MAX_DRAFTS):
        try:
            draft = place.agent.propose(task)
        except AgentError as error:
            if place.stop.draining.is_set():  # it was waiting for something, and was told not to
                raise Draining("the worker is stopping") from error
            raise
        place.monitor.propose(draft.proposal)
        if pulse.lost is not None:
            raise LeaseLost(pulse.lost)
        reason = _ask(lease, draft, place)
        if not reason:
            return draft
        place.monitor.note(f"{draft.proposal.title}: {reason}")
        task = replace(task, refused=(*task.refused, draft))
    raise AgentError(f"no new idea in {MAX_DRAFTS} drafts; the last: {reason}")


def _ask(lease: Lease, draft: Draft, place: Workplace) -> str:
    """Why the coordinator does not want this draft; empty if it is accepted, or if nobody could be asked."""
    submission = ProposalSubmission(token=lease.token, proposal=draft.proposal, files=dict(draft.files))
    try:
        reply = insist(lambda: place.client.propose(lease.id, submission), place.stop.draining, place.patience_seconds)
    except (Unreachable, UnexpectedReply) as error:
        if place.stop.draining.is_set():
            raise Draining("the worker is stopping") from error
        place.monitor.warn(f"{error}; going on without asking whether this was tried before")
        return ""
    except Rejected as error:
        if error.status in _LEASE_GONE:
            raise LeaseLost(str(error)) from error
        raise
    if reply.accepted:
        return ""
    known = f" (experiment {reply.duplicate_of})" if reply.duplicate_of is not None else ""
    return f"{reply.reason or 'the coordinator knows this already'}{known}"


def _commit(lease: Lease, project: LocalProject, draft: Draft, author: str) -> CommitUpload:
    words = CommitWords(author, int(now().timestamp()), _commit_message(draft))
    sha = project.repository.commit(lease.base.sha, draft.files, words)
    return CommitUpload(
        sha=sha,
        parent_sha=lease.base.sha,
        files=dict(draft.files),
        author=words.author,
        authored_at=words.authored_at,
        message=words.message,
    )


def _commit_message(draft: Draft) -> str:
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


def _measure(sample: Sample, place: Workplace, pulse: Pulse) -> RunReport:
    if place.stop.draining.is_set() or place.stop.pause is not None:
        raise Draining(place.stop.pause or "the worker is stopping")
    report = place.laboratory.measure(
        sample, lambda progress: _show(progress, place, pulse), place.monitor.note, place.stop.interrupt
    )
    if pulse.lost is not None:
        place.monitor.warn(f"{pulse.lost}; the run was finished all the same, and a first late result is accepted")
    return report


def _show(progress: Progress, place: Workplace, pulse: Pulse) -> None:
    """Tell the coordinator and people how far the job is."""
    pulse.update(progress)
    place.monitor.progress(progress)


def _repair(task: Task, draft: Draft, report: RunReport, place: Workplace) -> Draft | None:
    """The draft without the mistake that made it crash; None where the run is the result as it is."""
    if report.outcome is not RunOutcome.CRASHED or place.stop.draining.is_set():
        return None
    try:
        repaired = place.agent.repair(task, draft, report)
    except (AgentError, ValidationError) as error:
        place.monitor.note(f"no repair: {error}")
        return None
    if repaired is not None:
        place.monitor.note(f"crashed ({report.reason or 'no reason given'}); trying a repair")
    return repaired


def _find_words(agent: Agent, task: Task, draft: Draft, report: RunReport) -> FindingDraft | None:
    """The agent's own finding, if it has one: an agent without words does not lose the measurement."""
    try:
        return agent.write_finding(task, draft, report)
    except (AgentError, ValidationError):  # no words, or too many
        return None


def author_of(worker_name: str) -> str:
    """The author of a worker's commits. The address is one that cannot exist (RFC 2606)."""
    name = "".join(c for c in worker_name if c.isprintable() and c not in "<>").strip() or "worker"
    address = "".join(c if c.isascii() and c.isalnum() else "-" for c in name).lower()
    return f"{name} <{address}@worker.invalid>"
