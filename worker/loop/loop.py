"""The worker's loop: measures one job after another, each prepared by the prefetcher."""

from enum import Enum, auto
from pathlib import Path

from shared.leases import SeedProbe
from worker.api.retry import Backoff
from worker.loop.claim import JobClaimer
from worker.loop.job import WorkerParts, measure_job, probe_seed
from worker.loop.prefetch import Prefetcher


class Ending(Enum):
    """Why a worker's loop has ended."""

    DONE = auto()  # all requested jobs are reported, or the agent has no more
    NOTHING_TO_DO = auto()  # with `once`
    FAILED = auto()  # with `once`
    DRAINED = auto()
    STOPPED = auto()


class Loop:
    """One worker's loop. `crash_log` gets the traceback of an unexpected error; people see a line.

    `project` and `branch` restrict the jobs to the volunteer's choice.
    """

    def __init__(
        self,
        parts: WorkerParts,
        project: str | None,
        crash_log: Path,
        branch: str | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._parts = parts
        self._project, self._branch = project, branch
        self._crash_log = crash_log
        self._backoff = backoff or Backoff()

    def run(self, max_jobs: int | None = None, once: bool = False) -> Ending:
        """Work until `max_jobs` are reported, the worker is stopped, or, with `once`, after one attempt.

        Runs begin in the calling thread, which must live as long as they do. Raises Unauthorized and HeartbeatDied;
        any ClientError or OSError of the first request; RunImpossible of the first job, MachineFault of any; and
        Outdated after the current jobs are reported.
        """
        parts = self._parts
        claimer = JobClaimer(parts, self._project, self._branch, self._backoff, once=once)
        with Prefetcher(parts, claimer, self._crash_log, max_jobs) as prefetcher:
            while (job := prefetcher.next_job()) is not None:
                if isinstance(job, SeedProbe):
                    self._probe(job)
                    prefetcher.return_probe()
                    continue
                try:
                    measure_job(job, parts, prefetcher.find_ready)
                except Exception as error:  # noqa: BLE001 - the prefetcher decides whether the worker goes on
                    job.error = error
                prefetcher.return_job(job)
        if claimer.outdated is not None:
            raise claimer.outdated
        if prefetcher.finished is not None:
            parts.notify(prefetcher.finished)
            return Ending.DONE
        if once and not parts.stop.draining.is_set():
            if claimer.found_nothing:
                parts.notify(claimer.reason)
                return Ending.NOTHING_TO_DO
            return Ending.DONE if prefetcher.reported and len(parts.outbox) == 0 else Ending.FAILED
        if max_jobs is not None and prefetcher.reported >= max_jobs:
            return Ending.DONE
        return Ending.STOPPED if parts.stop.now.is_set() else Ending.DRAINED

    def _probe(self, probe: SeedProbe) -> None:
        """Probe a project's seed. What fails here fails again in a run, and is reported there."""
        try:
            probe_seed(probe, self._parts)
        except Exception as error:  # noqa: BLE001 - it must not end the worker
            if self._parts.stop.interrupt.is_set():
                return
            self._parts.warn(f"how fast the project's seed runs could not be measured: {error}")
            assert self._parts.throughputs is not None
            self._parts.throughputs.add(probe.root_sha, None)
