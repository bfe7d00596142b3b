"""Delivers results from the outbox to the coordinator, and shows people the outcome of each."""

from dataclasses import dataclass
from urllib.parse import urljoin
from uuid import UUID

from shared.experiments import Posterior
from worker.api.client import ClientError, Unauthorized
from worker.loop.job import Job, WorkerParts
from worker.loop.outbox import DamagedFile, DeliveredResult, ForeignResult, RejectedResult
from worker.ui.events import OutboxChanged, RunFinished, RunSummary


@dataclass(frozen=True)
class ResultPlace:
    """The result's URL, or where it is kept; and the posterior of its commit, if the coordinator has sent it."""

    place: str = "in the outbox"
    posterior: Posterior | None = None


def deliver(parts: WorkerParts, expected: UUID | None = None) -> ResultPlace:
    """Deliver the outbox, and notify people of results other than the run `expected`. Raises ClientError."""
    found = ResultPlace()
    try:
        for outcome in parts.outbox.deliver(parts.client):
            match outcome:
                case DeliveredResult(entry, reply):
                    url = urljoin(f"{parts.client.url}/", reply.url.lstrip("/"))
                    if entry.upload.run.id == expected:
                        found = ResultPlace(url, reply.posterior)
                    else:
                        parts.notify(f"delivered an earlier result: {url}")
                case RejectedResult(entry, error, path):
                    parts.warn(f"the coordinator rejected a result: {error}; it is kept as {path}")
                    if entry.upload.run.id == expected:
                        found = ResultPlace(f"rejected, kept as {path}")
                case ForeignResult(_, path):
                    parts.warn(f"a result of another account waits for its token: {path} (swarm-worker login)")
                case DamagedFile(_, path):
                    parts.warn(f"a result in the outbox cannot be read; it was moved to {path}")
    finally:
        parts.events.handle(OutboxChanged(len(parts.outbox)))
    return found


def report_result(job: Job, parts: WorkerParts) -> None:
    """Deliver the outbox, with this job's result as the newest, and show its summary. Raises Unauthorized."""
    assert job.report is not None
    found = ResultPlace()
    if job.lease.rung is None:  # with a larger budget anything looks better
        parts.offline.record_run(job.lease, job.project.contract, job.report, job.editable_files)
    if parts.offline.coordinator_is_away:  # the claimer asks it again when it is time
        parts.events.handle(OutboxChanged(len(parts.outbox)))
        show_summary(job, parts, found)
        return
    try:
        found = deliver(parts, job.report.id)
    except Unauthorized:
        raise
    except ClientError as error:
        parts.warn(f"the result is kept in the outbox and sent later: {error}")
    finally:
        show_summary(job, parts, found)


def show_summary(job: Job, parts: WorkerParts, found: ResultPlace) -> None:
    """Show people the summary of a job's run."""
    assert job.report is not None
    contract, agent = job.project.contract, job.plan.draft.agent if job.plan is not None else ""
    summary = RunSummary(job.lease, job.title, contract, job.report, found.place, found.posterior, agent)
    parts.events.handle(RunFinished(summary))
