"""The steps of one job that ask the agent: draft and commit an experiment, repair it, write its finding."""

import hashlib
from dataclasses import replace
from uuid import uuid4

from pydantic import ValidationError

from shared.commits import CommitWords
from shared.experiments import Assignment, JobKind, ProposalReply, ProposalSubmission
from shared.leases import BaseCommit, CommitUpload, GrantedLease, Phase
from shared.protocol import Sha, clean_text, now
from worker.agents.base import AgentError, AgentInterrupted, Draft, Task
from worker.api.client import Rejected, UnexpectedReply, Unreachable
from worker.api.retry import retry
from worker.loop.heartbeat import LeaseHeartbeat
from worker.loop.job import Draining, Job, LeaseLost, PlannedExperiment, WorkerParts, report_progress, store_result
from worker.runs.spec import RunProgress
from worker.ui.events import ExperimentProposed

MAX_DRAFTS = 5
"""Drafts of one job that the coordinator may refuse before the job is given back: the agent's and its substitute's."""

_LEASE_GONE = (404, 410)  # HTTP statuses


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
    report_progress(job, RunProgress(Phase.READY), parts)
    return job


def repair_job(job: Job, parts: WorkerParts) -> bool:
    """Let the agent repair a job whose run crashed; if it does not, store the result and return False."""
    assert job.plan is not None and job.report is not None
    job.repairs_left -= 1
    report_progress(job, RunProgress(Phase.READY), parts)
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


def _describe_task(job: Job, parts: WorkerParts) -> Task:
    lease = job.lease
    # The lease's id is part of the agent's seed: two workers with the same base and trials must not draft the same.
    digest = hashlib.sha256(f"{lease.id} {lease.seed}".encode()).digest()
    return Task(
        contract=job.project.contract, base=lease.base, program=job.project.program, context=lease.context,
        trials=tuple(lease.trials), seed=int.from_bytes(digest[:4]), tree=job.files, kind=lease.kind,
        assignment=lease.assignment, steps=parts.projects.read_steps(lease), notes=parts.notes,
        show_activity=lambda step: report_progress(job, RunProgress(Phase.DRAFTING, step), parts),
    )  # fmt: skip


def _draft(job: Job, task: Task, parts: WorkerParts) -> Draft | Sha:
    """A draft that the coordinator accepts as new, in at most MAX_DRAFTS attempts; or the commit to measure instead."""
    reason = ""
    for _ in range(MAX_DRAFTS):
        try:
            draft = parts.agent.propose(task)
        except AgentError as error:
            if parts.stop.quiet.is_set():  # the stop interrupted it
                raise Draining(parts.stop.reason) from error
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
            raise Draining(parts.stop.reason) from error
        parts.warn(f"{error}; continuing without a check whether this was tried before")
        return None
    except Rejected as error:
        if error.status in _LEASE_GONE:
            raise LeaseLost(str(error)) from error
        raise


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
