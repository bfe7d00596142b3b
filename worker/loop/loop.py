"""The worker's loop: measure one job after the other, each made ready by the desk, whatever happens to one of them."""

from enum import Enum, auto
from pathlib import Path

from worker.api.retry import Backoff
from worker.loop.claim import Claims
from worker.loop.job import Workplace, measure
from worker.loop.prefetch import Desk


class Ending(Enum):
    """Why a worker's loop has ended."""

    DONE = auto()  # as many jobs as were asked for, or the agent has no more
    NOTHING_TO_DO = auto()  # and it was to try only once
    FAILED = auto()  # the one job that was asked for
    DRAINED = auto()
    STOPPED = auto()


class Loop:
    """One worker's life. `crash_log` keeps the traceback of a mistake of ours; people see a line.

    `project` and `branch` are the volunteer's choice, None: whatever the coordinator thinks best.
    """

    def __init__(
        self,
        place: Workplace,
        worker_name: str,
        project: str | None,
        crash_log: Path,
        branch: str | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._place = place
        self._worker_name = worker_name
        self._project, self._branch = project, branch
        self._crash_log = crash_log
        self._backoff = backoff or Backoff()

    def run(self, max_jobs: int | None = None, once: bool = False) -> Ending:
        """Work until `max_jobs` are reported, a person asks to stop, or, with `once`, after one attempt.

        Runs begin in the calling thread, which must live as long as they do. Raises Unauthorized and HeartbeatDied.
        Raises any ClientError or OSError of the very first contact, RunImpossible of the first job, and Outdated once
        what was under way is reported.
        """
        claims = Claims(self._place, self._worker_name, self._project, self._branch, self._backoff, once=once)
        with Desk(self._place, claims, self._crash_log, max_jobs) as desk:
            while (job := desk.take()) is not None:
                try:
                    measure(job, self._place)
                except Exception as error:  # noqa: BLE001 - one job's mistake must not end the worker; the desk judges
                    job.error = error
                desk.hand_back(job)
        if claims.outdated is not None:
            raise claims.outdated
        if desk.finished is not None:
            self._place.notify(desk.finished)
            return Ending.DONE
        if once and not self._place.stop.draining.is_set():
            return self._end_of_one(claims, bool(desk.reported))
        if max_jobs is not None and desk.reported >= max_jobs:
            return Ending.DONE
        return Ending.STOPPED if self._place.stop.now.is_set() else Ending.DRAINED

    def _end_of_one(self, claims: Claims, measured: bool) -> Ending:
        if claims.found_nothing:
            self._place.notify(claims.reason)
            return Ending.NOTHING_TO_DO
        return Ending.DONE if measured and len(self._place.outbox) == 0 else Ending.FAILED
