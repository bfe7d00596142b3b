"""The worker's loop: claim a job, carry it out, report it, and so on, whatever happens to one of them."""

import time
import traceback
from enum import Enum, auto
from pathlib import Path
from urllib.parse import urljoin
from uuid import UUID

from shared.commits import CommitError
from shared.contract import ContractError
from shared.leases import ClaimRequest, Lease, ReleaseRequest
from shared.protocol import PROTOCOL_VERSION, now
from worker.agents.base import AgentError, AgentFinished
from worker.client import ClientError, Unauthorized, Unreachable
from worker.data import DataError
from worker.heartbeat import HeartbeatDied
from worker.job import Draining, Finished, LeaseLost, Workplace, carry_out
from worker.monitor import Receipt
from worker.outbox import Acknowledged, Damaged, Refused
from worker.retries import Backoff
from worker.training import RunImpossible, RunStopped

DEFAULT_WAIT_SECONDS = 30.0
MAX_HOLDING = 16
PAUSE_LOOK_SECONDS = 0.5
_EXPECTED = (AgentError, ClientError, CommitError, ContractError, DataError, RunImpossible, OSError)


class Ending(Enum):
    """Why a worker's loop has ended."""

    DONE = auto()  # as many jobs as were asked for, or the agent has no more
    NOTHING_TO_DO = auto()  # and it was to try only once
    FAILED = auto()  # the one job that was asked for
    DRAINED = auto()
    STOPPED = auto()


class Loop:
    """One worker's life. `crash_log` keeps the traceback of a mistake of ours; people see a line."""

    def __init__(self, place: Workplace, worker_name: str, project: str | None, crash_log: Path) -> None:
        self._place = place
        self._worker_name = worker_name
        self._project = project
        self._crash_log = crash_log
        self._backoff = Backoff()
        self._connected = False
        self._has_measured = False

    def run(self, max_jobs: int | None = None, once: bool = False) -> Ending:
        """Work until `max_jobs` are reported, a person asks to stop, or, with `once`, after one attempt.

        Raises Unauthorized and HeartbeatDied. Raises any ClientError or OSError of the very first contact, for then it
        is more likely that a setting is wrong than that something is away; and RunImpossible of the first job likewise.
        """
        stop, jobs = self._place.stop, 0
        while not stop.draining.is_set():
            if self._rest_while_paused():
                continue
            lease = self._claim(once)
            if lease is not None:
                try:
                    jobs += self._work(lease)
                except AgentFinished as finished:
                    self._place.monitor.note(str(finished))
                    return Ending.DONE
            if once and not stop.draining.is_set():
                return self._end_of_one(lease, bool(jobs))
            if max_jobs is not None and jobs >= max_jobs:
                return Ending.DONE
        return Ending.STOPPED if stop.now.is_set() else Ending.DRAINED

    def _rest_while_paused(self) -> bool:
        """Wait while a person has paused this worker; whether one had."""
        stop, told = self._place.stop, ""
        while (pause := stop.pause) is not None and not stop.draining.is_set():
            if pause != told:
                self._place.monitor.wait(pause, PAUSE_LOOK_SECONDS)
                told = pause
            stop.draining.wait(PAUSE_LOOK_SECONDS)
        return bool(told)

    def _end_of_one(self, lease: Lease | None, measured: bool) -> Ending:
        if lease is None:
            return Ending.NOTHING_TO_DO
        return Ending.DONE if measured and len(self._place.outbox) == 0 else Ending.FAILED

    def _claim(self, once: bool) -> Lease | None:
        """A job, or None after having waited, unless there is only this one attempt."""
        place = self._place
        try:
            self._deliver()
            reply = place.client.claim(self._request())
        except Unauthorized:
            raise
        except (ClientError, OSError) as error:
            if not self._connected or once:
                raise
            after = error.retry_after_seconds if isinstance(error, Unreachable) else None
            self._wait(str(error), self._backoff.next_wait(after))
            return None
        self._connected = True
        if reply.lease is not None:
            place.monitor.take(reply.lease)
        elif not once:
            self._wait(reply.reason or "There is nothing to do.", reply.retry_after_seconds or DEFAULT_WAIT_SECONDS)
        else:
            place.monitor.note(reply.reason or "There is nothing to do.")
        return reply.lease

    def _request(self) -> ClaimRequest:
        return ClaimRequest(
            protocol=PROTOCOL_VERSION,
            worker=self._worker_name,
            agent=self._place.agent.name,
            hardware=self._place.laboratory.hardware,
            project=self._project,
            holding=self._place.outbox.leases()[:MAX_HOLDING],
            wants_trials=self._place.agent.wants_trials,
        )

    def _work(self, lease: Lease) -> bool:
        """Carry out a job and report it; True if a run was measured. A job that fails is given back."""
        try:
            finished = carry_out(lease, self._place)
        except LeaseLost as error:
            self._place.monitor.warn(f"the job is no longer ours: {error}")
            return False
        except Unauthorized:
            raise
        except (AgentFinished, HeartbeatDied) as error:
            self._give_back(lease, str(error))
            raise
        except RunImpossible as error:
            if not self._has_measured:
                self._give_back(lease, str(error))
                raise
            self._fail(lease, error)  # a machine that could do it before: more likely that project, or a moment
            return False
        except (Draining, RunStopped) as error:
            self._give_back(lease, str(error))
            return False
        except Exception as error:  # noqa: BLE001 - the outermost loop: one job's mistake must not end the worker
            self._fail(lease, error)
            return False
        self._backoff.reset()
        self._has_measured = True
        self._report(finished)
        return True

    def _fail(self, lease: Lease, error: Exception) -> None:
        """Say what went wrong, give the job back, and wait a while: the next one may go wrong the same way."""
        reason = str(error) or type(error).__name__
        if not isinstance(error, _EXPECTED):
            record_crash(self._crash_log, error)
            reason = f"a mistake in the worker: {type(error).__name__}: {reason}"
            self._place.monitor.warn(f"please report this; its details are in {self._crash_log}")
        self._place.monitor.warn(f"the job failed: {reason}")
        self._give_back(lease, reason)
        self._wait("After a job that failed, this worker rests.", self._backoff.next_wait())

    def _give_back(self, lease: Lease, reason: str) -> None:
        """Release the lease, if that can be done at once; else it runs out by itself."""
        request = ReleaseRequest(token=lease.token, reason=" ".join(reason.split())[:200] or "no reason")
        try:
            self._place.client.release(lease.id, request)
        except ClientError as error:
            self._place.monitor.note(f"the job could not be given back, its lease will run out: {error}")

    def _report(self, finished: Finished) -> None:
        """Deliver the outbox, of which this result is the newest, and show the receipt."""
        run_id = finished.report.id
        places: dict[UUID, str] = {}
        try:
            self._deliver(places)
        except Unauthorized:
            raise
        except ClientError as error:
            self._place.monitor.warn(f"the result is kept in the outbox, and sent later: {error}")
        finally:
            objective = finished.project.contract.objective
            place = places.get(run_id, "in the outbox")
            self._place.monitor.receipt(Receipt(finished.lease, finished.title, objective, finished.report, place))

    def _deliver(self, places: dict[UUID, str] | None = None) -> None:
        """Deliver the outbox, and say so; with `places`, note there where each run is now. Raises ClientError."""
        outbox, monitor = self._place.outbox, self._place.monitor
        try:
            for handled in outbox.deliver(self._place.client):
                match handled:
                    case Acknowledged(entry, reply):
                        url = urljoin(f"{self._place.client.url}/", reply.url.lstrip("/"))
                        if places is None:
                            monitor.note(f"delivered an earlier result: {url}")
                        else:
                            places[entry.upload.run.id] = url
                    case Refused(entry, error, path):
                        monitor.warn(f"the coordinator refuses a result: {error}; it is kept as {path}")
                        if places is not None:
                            places[entry.upload.run.id] = f"refused, kept as {path}"
                    case Damaged(_, path):
                        monitor.warn(f"a result in the outbox cannot be read; it was set aside as {path}")
        finally:
            monitor.outbox(len(outbox))

    def _wait(self, reason: str, seconds: float) -> None:
        """Wait so long, or until a person wants something else."""
        stop, until = self._place.stop, time.monotonic() + seconds
        self._place.monitor.wait(reason, seconds)
        while stop.pause is None and (left := until - time.monotonic()) > 0:
            if stop.draining.wait(min(left, PAUSE_LOOK_SECONDS)):
                return


def record_crash(path: Path, error: Exception) -> None:
    """Add a mistake of ours, with where it happened, to a file; people are shown a line and the file's name."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{now().isoformat()}\n")
        traceback.print_exception(error, file=file)
