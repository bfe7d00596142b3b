"""Results on their way from the outbox to the coordinator, and what people are told of each."""

from dataclasses import dataclass
from urllib.parse import urljoin
from uuid import UUID

from shared.experiments import Posterior
from worker.api.client import ClientError, Unauthorized
from worker.loop.job import Job, Workplace
from worker.loop.outbox import DamagedFile, DeliveredResult, ForeignResult, RejectedResult
from worker.ui.events import OutboxChanged, RunFinished
from worker.ui.run_summary import RunSummary

IN_THE_OUTBOX = "in the outbox"


@dataclass(frozen=True)
class Whereabouts:
    """Where a result is to be seen, or where it is kept; and what all runs together now say of its commit."""

    place: str
    posterior: Posterior | None = None


def deliver(place: Workplace, expected: UUID | None = None) -> Whereabouts:
    """Deliver the outbox, and say so; of the run `expected`, return where it is now instead. Raises ClientError."""
    outbox, found = place.outbox, Whereabouts(IN_THE_OUTBOX)
    try:
        for handled in outbox.deliver(place.client):
            match handled:
                case DeliveredResult(entry, reply):
                    url = urljoin(f"{place.client.url}/", reply.url.lstrip("/"))
                    if entry.upload.run.id == expected:
                        found = Whereabouts(url, reply.posterior)
                    else:
                        place.notify(f"delivered an earlier result: {url}")
                case RejectedResult(entry, error, path):
                    place.warn(f"the coordinator refuses a result: {error}; it is kept as {path}")
                    if entry.upload.run.id == expected:
                        found = Whereabouts(f"refused, kept as {path}")
                case ForeignResult(_, path):
                    place.warn(
                        f"a result belongs to another account, and waits for its token: {path} (swarm-worker login)"
                    )
                case DamagedFile(_, path):
                    place.warn(f"a result in the outbox cannot be read; it was set aside as {path}")
    finally:
        place.events.handle(OutboxChanged(len(outbox)))
    return found


def report(job: Job, place: Workplace) -> None:
    """Deliver the outbox, of which this job's result is the newest, and show its summary. Raises Unauthorized."""
    assert job.report is not None
    found = Whereabouts(IN_THE_OUTBOX)
    if place.alone is not None:
        place.alone.note_run(job.lease, job.project.contract, job.report, job.editable_files)
        if place.alone.is_away:  # it is asked again when its time has come, and not after each run
            place.events.handle(OutboxChanged(len(place.outbox)))
            show_summary(job, place, found)
            return
    try:
        found = deliver(place, job.report.id)
    except Unauthorized:
        raise
    except ClientError as error:
        place.warn(f"the result is kept in the outbox, and sent later: {error}")
    finally:
        show_summary(job, place, found)


def show_summary(job: Job, place: Workplace, found: Whereabouts) -> None:
    """Show what came of a job."""
    assert job.report is not None
    contract = job.project.contract
    summary = RunSummary(job.lease, job.title, contract, job.report, found.place, found.posterior)
    place.events.handle(RunFinished(summary))
