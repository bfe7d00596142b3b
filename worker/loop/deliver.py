"""Delivers results from the outbox to the coordinator, and shows people the outcome of each."""

from dataclasses import dataclass
from urllib.parse import urljoin
from uuid import UUID

from shared.experiments import Posterior
from worker.api.client import ClientError, Unauthorized
from worker.loop.job import Job, Workplace
from worker.loop.outbox import DamagedFile, DeliveredResult, ForeignResult, RejectedResult
from worker.ui.events import OutboxChanged, RunFinished
from worker.ui.run_summary import RunSummary


@dataclass(frozen=True)
class ResultPlace:
    """The result's URL, or where it is kept; and the posterior of its commit, if the coordinator has sent it."""

    place: str = "in the outbox"
    posterior: Posterior | None = None


def deliver(place: Workplace, expected: UUID | None = None) -> ResultPlace:
    """Deliver the outbox, and notify people of results other than the run `expected`. Raises ClientError."""
    found = ResultPlace()
    try:
        for outcome in place.outbox.deliver(place.client):
            match outcome:
                case DeliveredResult(entry, reply):
                    url = urljoin(f"{place.client.url}/", reply.url.lstrip("/"))
                    if entry.upload.run.id == expected:
                        found = ResultPlace(url, reply.posterior)
                    else:
                        place.notify(f"delivered an earlier result: {url}")
                case RejectedResult(entry, error, path):
                    place.warn(f"the coordinator rejected a result: {error}; it is kept as {path}")
                    if entry.upload.run.id == expected:
                        found = ResultPlace(f"rejected, kept as {path}")
                case ForeignResult(_, path):
                    place.warn(f"a result of another account waits for its token: {path} (swarm-worker login)")
                case DamagedFile(_, path):
                    place.warn(f"a result in the outbox cannot be read; it was moved to {path}")
    finally:
        place.events.handle(OutboxChanged(len(place.outbox)))
    return found


def report_result(job: Job, place: Workplace) -> None:
    """Deliver the outbox, with this job's result as the newest, and show its summary. Raises Unauthorized."""
    assert job.report is not None
    found = ResultPlace()
    if place.offline is not None:
        place.offline.record_run(job.lease, job.project.contract, job.report, job.editable_files)
        if place.offline.coordinator_is_away:  # the claimer asks it again when it is time
            place.events.handle(OutboxChanged(len(place.outbox)))
            show_summary(job, place, found)
            return
    try:
        found = deliver(place, job.report.id)
    except Unauthorized:
        raise
    except ClientError as error:
        place.warn(f"the result is kept in the outbox and sent later: {error}")
    finally:
        show_summary(job, place, found)


def show_summary(job: Job, place: Workplace, found: ResultPlace) -> None:
    """Show people the summary of a job's run."""
    assert job.report is not None
    contract = job.project.contract
    summary = RunSummary(job.lease, job.title, contract, job.report, found.place, found.posterior)
    place.events.handle(RunFinished(summary))
