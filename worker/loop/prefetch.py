"""The desk: a thread that has the next job ready while one is measured, and does the paperwork of those that were.

    bench (worker/loop/loop.py)             desk
    measures  ◄────── take() ────────  claims, drafts, asks whether it is new
              ───── hand_back() ────►  mends what crashed, writes the finding, delivers, shows the receipt

Only the desk speaks to the agent, and only the bench uses the device. The desk's thread gives way to what is measured:
what it computes must not take a CPU from a run.
"""

import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType
from typing import Self

from shared.commits import CommitError
from shared.contract import ContractError
from shared.leases import Lease, ReleaseRequest
from shared.protocol import now
from worker.agents.base import AgentError, AgentFinished
from worker.api.client import ClientError, Unauthorized
from worker.data.prepare import DataError
from worker.loop.claim import Claims
from worker.loop.deliver import IN_THE_OUTBOX, Whereabouts, report, show_summary
from worker.loop.heartbeat import HeartbeatDied, Pulse
from worker.loop.job import Draining, Job, LeaseLost, Workplace, begin, mend, write_up
from worker.runs.spec import RunImpossible, RunStopped
from worker.ui.events import JobClaimed, JobDropped, WaitStarted

MAX_HELD = 2
"""One job that is measured, and one that is drafted meanwhile: what the coordinator allows a worker."""

LOOK_SECONDS = 0.25
NOW_SECONDS = 3.0
"""How long paperwork may take once the worker is to stop now: a model's answer is not waited for."""

NICENESS = 10
_EXPECTED = (AgentError, ClientError, CommitError, ContractError, DataError, RunImpossible, OSError)

Step = Callable[[], None]


class Desk:
    """Use it as a context: leaving it gives back what was not begun. `take` and `hand_back` are for one other thread.

    `reported` counts the jobs that were measured and written up; `finished` is why the agent will have no more ideas.
    """

    def __init__(self, place: Workplace, claims: Claims, crash_log: Path, max_jobs: int | None) -> None:
        self._place, self._claims, self._crash_log, self._max_jobs = place, claims, crash_log, max_jobs
        self._changed = Condition()
        self._ready: deque[Job] = deque()
        self._returned: deque[Job] = deque()
        self._running: Job | None = None
        self._drafting: Lease | None = None
        self._bench_waits = False
        self._told = ""
        self._leaving = False
        self._ended = False
        self._error: Exception | None = None
        self._thread = Thread(target=self._work, name="desk", daemon=True)
        self.reported = 0
        self.finished: str | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        with self._changed:
            self._leaving = True
            self._changed.notify_all()
        patience = time.monotonic() + NOW_SECONDS
        while self._thread.is_alive():
            self._thread.join(LOOK_SECONDS)
            if not self._place.stop.now.is_set():
                patience = time.monotonic() + NOW_SECONDS
            elif time.monotonic() > patience:  # the thread waits for somebody, and ends with the process
                if (lease := self._drafting) is not None:
                    self._give_back(lease, "the worker was stopped while it drafted")
                break
        while self._returned:
            self._leave_off(self._returned.popleft())

    def take(self) -> Job | None:
        """The next job to measure; waits for it. None: there will be none. Raises what ended the desk."""
        with self._changed:
            self._bench_waits = True
            self._changed.notify_all()
            while not self._ended and not self._place.stop.now.is_set():
                if self._ready and not self._is_to_leave() and self._place.stop.pause is None:
                    self._running = self._ready.popleft()
                    self._bench_waits, self._told = False, ""
                    return self._running
                self._changed.wait(LOOK_SECONDS)
            if self._error is not None:
                raise self._error
            return None

    def hand_back(self, job: Job) -> None:
        """The job that was taken: measured, crashed, or with the `error` for which it was not."""
        with self._changed:
            self._running = None
            self._returned.append(job)
            self._changed.notify_all()

    def _work(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)  # of this thread alone
        try:
            while (step := self._next_step()) is not None:
                step()
        except Exception as error:  # noqa: BLE001 - the thread's outermost: the bench raises it
            self._error = error
        finally:
            while self._ready:
                self._let_go(self._ready.popleft(), "the worker is stopping")
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _next_step(self) -> Step | None:
        """What to do now, waited for; None where all is done."""
        with self._changed:
            while True:
                away = self._place.stop.pause or ("the worker is stopping" if self._is_to_leave() else None)
                if self._returned:
                    return partial(self._take_back, self._returned.popleft())
                if away and self._ready:
                    return partial(self._let_go, self._ready.popleft(), away)
                if self._ready and self._ready[-1].pulse.lost is not None:
                    return partial(self._forget, self._ready.pop())
                if self._running is None and not self._ready and self._claims_no_more():
                    return None
                if not away and self._may_claim():
                    return self._claim
                self._tell_why_idle()
                self._changed.wait(LOOK_SECONDS)

    def _is_to_leave(self) -> bool:
        return self._leaving or self._place.stop.draining.is_set()

    def _claims_no_more(self) -> bool:
        enough = self._max_jobs is not None and self.reported >= self._max_jobs
        return self._is_to_leave() or enough or self.finished is not None or self._claims.is_over

    def _may_claim(self) -> bool:
        held = len(self._ready) + (self._running is not None)
        room = self._max_jobs is None or self.reported + held < self._max_jobs
        return not self._ready and held < MAX_HELD and room and not self._claims.left and not self._claims_no_more()

    def _tell_why_idle(self) -> None:
        """Say once why the device has nothing to do, if that is not for a draft."""
        if not self._bench_waits:
            return
        pause, left = self._place.stop.pause, self._claims.left
        why = pause or (self._claims.reason if left else "")
        if why and why != self._told:
            self._place.events.handle(WaitStarted(why, LOOK_SECONDS if pause else left))
        self._told = why

    def _claim(self) -> None:
        running = [] if self._running is None else [self._running.lease.id]
        lease = self._claims.ask(running)
        if lease is None:
            return
        self._drafting = lease
        self._place.events.handle(JobClaimed(lease))
        pulse = Pulse(self._place.find_keeper(lease), lease)
        pulse.start()
        try:
            job = begin(lease, pulse, self._place)
        except Exception as error:  # noqa: BLE001 - one job's mistake must not end the worker
            self._drafting = None
            pulse.stop()
            self._fail(lease, error)
            return
        with self._changed:
            self._drafting = None
            self._ready.append(job)
            self._changed.notify_all()

    def _take_back(self, job: Job) -> None:
        """Mend a job and have it measured again, or write it up and report it."""
        try:
            if job.error is not None:
                raise job.error
            if job.needs_repair and mend(job, self._place):
                with self._changed:
                    self._ready.appendleft(job)
                    self._changed.notify_all()
                return
            write_up(job, self._place)
            job.pulse.stop()
            job.pulse.check()
        except Exception as error:  # noqa: BLE001 - as above
            job.pulse.stop()
            self._fail(job.lease, error)
            return
        self._claims.note_success()
        self.reported += 1
        report(job, self._place)

    def _leave_off(self, job: Job) -> None:
        """What was handed back too late to be worked on: its result is delivered another time, if it has one."""
        if job.stored is not None:
            show_summary(job, self._place, Whereabouts(IN_THE_OUTBOX))
            job.pulse.stop()
        else:
            self._let_go(job, str(job.error or "the worker is stopping"))

    def _forget(self, job: Job) -> None:
        job.pulse.stop()
        self._fail(job.lease, LeaseLost(job.pulse.lost or ""))

    def _let_go(self, job: Job, reason: str) -> None:
        job.pulse.stop()
        self._give_back(job.lease, reason)

    def _fail(self, lease: Lease, error: Exception) -> None:
        """Give back a job that did not come to a result, and raise what the worker cannot go on after."""
        if isinstance(error, LeaseLost):
            self._place.warn(f"the job is no longer ours: {error}")
            self._place.events.handle(JobDropped(lease))
            return
        reason = str(error) or type(error).__name__
        is_first = isinstance(error, RunImpossible) and not self.reported
        if isinstance(error, Unauthorized | HeartbeatDied) or is_first:
            self._give_back(lease, reason)
            raise error
        if isinstance(error, AgentFinished):
            self.finished = reason
        elif isinstance(error, RunImpossible) or not isinstance(error, Draining | RunStopped):
            if not isinstance(error, _EXPECTED):
                record_crash(self._crash_log, error)
                reason = f"a mistake in the worker: {type(error).__name__}: {reason}"
                self._place.warn(f"please report this; its details are in {self._crash_log}")
            self._place.warn(f"the job failed: {reason}")
            self._claims.note_failure()
        self._give_back(lease, reason)

    def _give_back(self, lease: Lease, reason: str) -> None:
        """Release the lease, if that can be done at once; else it runs out by itself."""
        request = ReleaseRequest(token=lease.token, reason=" ".join(reason.split())[:200] or "no reason")
        try:
            self._place.find_keeper(lease).release(lease.id, request)
        except ClientError as error:
            self._place.notify(f"the job could not be given back, its lease will run out: {error}")
        self._claims.note_return()
        self._place.events.handle(JobDropped(lease))


def record_crash(path: Path, error: Exception) -> None:
    """Add a mistake of ours, with where it happened, to a file. On a disk that is full it is lost, and nothing else."""
    with suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(f"{now().isoformat()}\n")
        traceback.print_exception(error, file=file)
