"""The prefetcher: a thread that prepares the next job while one is measured, and reports measured jobs.

    main thread (worker/loop/loop.py)    prefetcher                    agent (worker/loop/agent_thread.py)
    measures  ◄──── next_job() ─────  claims, checks novelty  ────►  drafts
              ─── return_job() ────►  delivers, shows         ────►  repairs a crash, writes the finding

Only the main thread uses the device, and only its own thread asks the agent. Where it is not ready when the device
soon is, its substitute drafts another job, the spare, at once; the agent goes on, and its draft keeps the lease, the
parent and the context that it was made for. The thread has a low priority, so that it takes no CPU time from a run.
"""

import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Self

from shared.commits import CommitError
from shared.contract import ContractError
from shared.leases import GrantedLease, ReleaseRequest, SeedProbe
from shared.protocol import now
from worker.agents.base import Agent, AgentError, AgentFinished, AssignmentImpossible
from worker.api.client import ClientError, Unauthorized
from worker.data.download import DataError
from worker.loop.agent_thread import NICENESS, AgentThread
from worker.loop.claim import JobClaimer
from worker.loop.deliver import ResultPlace, report_result, show_summary
from worker.loop.drafting import prepare_job, repair_job, write_finding
from worker.loop.heartbeat import HeartbeatDied, LeaseHeartbeat, MessageReader
from worker.loop.job import Draining, Job, LeaseLost, WorkerParts, release_result
from worker.runs.spec import MachineFault, RunImpossible, RunStopped
from worker.ui.events import AgentTrouble, JobClaimed, JobDropped, WaitStarted

POLL_INTERVAL_SECONDS = 0.25
STOP_TIMEOUT_SECONDS = 3.0
"""Seconds that a stop waits for the prefetcher's thread, for example for the answer of a model."""

SPARE_SECONDS = 5.0
"""Seconds of training left at which a spare is made ready if the agent is not."""

PATIENCE_SECONDS = 0.5
"""Seconds that the agent may take before the device does not wait for it."""

OUTLASTED_JOBS = 10  # that are reported during one draft, after which the last job does not wait for it
MAX_HELD, MAX_HELD_WITH_SPARE = 2, 3
"""Jobs held at the same time, as the coordinator allows."""

_EXPECTED = (AgentError, ClientError, CommitError, ContractError, DataError, RunImpossible, OSError)


class Prefetcher:
    """A context manager: leaving it gives back the jobs that were not begun. One other thread calls its methods.

    `reported` counts the jobs that were measured and reported; `finished` is why the agent has no more experiments.
    """

    def __init__(self, parts: WorkerParts, claimer: JobClaimer, crash_log: Path, max_jobs: int | None) -> None:
        self._parts, self._claimer, self._crash_log, self._max_jobs = parts, claimer, crash_log, max_jobs
        self._messages = MessageReader(parts.client, parts.warn)
        self._substitute = parts.agent.substitute
        self._changed = Condition()
        self._ready: deque[Job] = deque()
        self._returned: deque[Job] = deque()
        self._running: Job | None = None
        self._drafting: GrantedLease | None = None
        self._finishing: list[Job] = []
        self._asked: deque[tuple[Future[Any], Callable[[Callable[[], Any]], None]]] = deque()
        self._asked_at, self._reported_when_asked = 0.0, 0
        self._device_is_idle = False
        self._idle_reason = self._trouble = ""
        self._leaving = False
        self._ended = False
        self._error: Exception | None = None
        self._agent_thread = AgentThread(self._wake)
        self._thread = Thread(target=self._run, name="prefetch", daemon=True)
        self.reported = 0
        self.finished: str | None = None

    def __enter__(self) -> Self:
        self._agent_thread.start()
        self._thread.start()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._parts.runner.drop_ahead()
        with self._changed:
            self._leaving = True
            self._changed.notify_all()
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while self._thread.is_alive():
            self._thread.join(POLL_INTERVAL_SECONDS)
            if not self._parts.stop.now.is_set():
                deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
            elif time.monotonic() > deadline:  # the agent is blocked, and ends with the process
                if (lease := self._drafting) is not None:
                    self._give_back(lease, "the worker was stopped while it drafted")
                break
        for job in (*self._finishing, *self._returned):
            self._drop_returned(job)

    def next_job(self) -> Job | SeedProbe | None:
        """Wait for the next job to measure, or a seed to probe; None if there will be none.

        What was started for a job that is not there any more is ended. Raises the error that ended the prefetcher.
        """
        with self._changed:
            self._device_is_idle = True
            self._changed.notify_all()
            while not self._ended and not self._parts.stop.now.is_set():
                if self._ready and not self._must_leave() and self._parts.stop.pause is None:
                    self._running = self._ready.popleft()
                    self._device_is_idle, self._idle_reason = False, ""
                    return self._running
                if self._claimer.probe is not None and not self._must_leave() and self._parts.stop.pause is None:
                    return self._claimer.probe
                self._parts.runner.drop_ahead()
                self._changed.wait(POLL_INTERVAL_SECONDS)
            if self._error is not None:
                raise self._error
            return None

    def find_ready(self) -> Job | None:
        """The job that `next_job` would return now, if nothing came between."""
        with self._changed:
            return self._ready[0] if self._ready else None

    def return_probe(self) -> None:
        with self._changed:
            self._claimer.record_probe()
            self._changed.notify_all()

    def return_job(self, job: Job) -> None:
        with self._changed:
            self._running = None
            self._returned.append(job)
            self._changed.notify_all()

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)  # of this thread alone
        try:
            while (step := self._next_step()) is not None:
                step()
        except Exception as error:  # noqa: BLE001 - the thread's outermost: `next_job` raises it
            self._error = error
        finally:
            self._agent_thread.end()
            while self._ready:
                self._drop(self._ready.popleft(), "the worker is stopping")
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _next_step(self) -> Callable[[], None] | None:
        """Wait for the next thing to do; None when all is done."""
        with self._changed:
            while True:
                obstacle = self._parts.stop.pause or ("the worker is stopping" if self._must_leave() else None)
                if self._returned:
                    return partial(self._finish, self._returned.popleft())
                if self._asked and self._asked[0][0].done():
                    answer, then = self._asked.popleft()
                    return partial(then, answer.result)
                if obstacle and self._ready:
                    return partial(self._drop, self._ready.popleft(), obstacle)
                if (lost := next((job for job in self._ready if job.heartbeat.lost is not None), None)) is not None:
                    self._ready.remove(lost)
                    return partial(self._fail_job, lost, LeaseLost(lost.heartbeat.lost))
                if self._drafting is not None and self._has_enough(self.reported) and not obstacle:
                    self._parts.stop.request()  # as a volunteer would: the draft is not needed any more
                    continue
                is_idle = self._running is None and not self._ready and not self._asked
                if is_idle and self._claims_no_more():
                    return None
                if not obstacle and (agent := self._choose_agent()) is not None:
                    return partial(self._claim, agent)
                self._show_idle_reason()
                self._changed.wait(POLL_INTERVAL_SECONDS)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _ask(self, work: Callable[[], Any], then: Callable[[Callable[[], Any]], None]) -> None:
        """Let the agent's thread do `work`; this one calls `then` with what returns its result, or raises."""
        with self._changed:
            if not self._asked:
                self._asked_at = time.monotonic()
            self._asked.append((self._agent_thread.ask(work), then))

    def _must_leave(self) -> bool:
        return self._leaving or self._parts.stop.draining.is_set()

    def _claims_no_more(self) -> bool:
        is_done = self._has_enough(self.reported) or self.finished is not None or self._claimer.is_over
        return self._must_leave() or is_done

    def _count_planned(self) -> int:
        """Jobs that are reported or held, without one whose draft takes too long to count on."""
        is_late = self._drafting is not None and self.reported >= self._reported_when_asked + OUTLASTED_JOBS
        return self.reported + len(self._list_held()) - is_late

    def _has_enough(self, jobs: int) -> bool:
        return self._max_jobs is not None and jobs >= self._max_jobs

    def _choose_agent(self) -> Agent | None:
        """The agent to claim a job for: the worker's own if it has nothing to do, its substitute if the device would
        have to wait; None to claim none now."""
        held = len(self._list_held())
        if self._claimer.seconds_left or self._claims_no_more() or self._has_enough(self._count_planned()):
            return None
        if not self._asked and all(job.is_spare for job in self._ready) and held < MAX_HELD + len(self._ready):
            return self._parts.agent
        is_slow = self._asked and time.monotonic() > self._asked_at + PATIENCE_SECONDS
        may_spare = is_slow and not self._ready and held < MAX_HELD_WITH_SPARE and self._is_device_needed()
        return self._substitute if may_spare else None

    def _is_device_needed(self) -> bool:
        """Whether the device is idle, or will be within seconds."""
        if (job := self._running) is None:
            return self._device_is_idle
        left = (1.0 - job.heartbeat.progress.share) * job.project.contract.budget.training_seconds * job.lease.pace
        return left <= SPARE_SECONDS

    def _list_held(self) -> list[GrantedLease]:
        """The leases of all jobs that are not reported yet."""
        jobs = [*self._finishing, *self._returned, *self._ready, *([self._running] if self._running else [])]
        return [job.lease for job in jobs] + ([self._drafting] if self._drafting is not None else [])

    def _show_idle_reason(self) -> None:
        """Show once why the device is idle, unless it waits for a draft."""
        if not self._device_is_idle or self._claimer.probe is not None:
            return
        pause, left = self._parts.stop.pause, self._claimer.seconds_left
        reason = pause or (self._claimer.reason if left else "")
        if reason and reason != self._idle_reason:
            self._parts.events.handle(WaitStarted(reason, POLL_INTERVAL_SECONDS if pause else left))
        self._idle_reason = reason

    def _claim(self, agent: Agent) -> None:
        """Claim a job for an agent, and let it be drafted: in its thread, or if it is the substitute's at once."""
        lease = self._claimer.claim([lease.id for lease in self._list_held()], agent)
        if lease is None:
            return
        self._parts.events.handle(JobClaimed(lease))
        heartbeat = LeaseHeartbeat(self._parts.client_for(lease), lease, self._messages)
        heartbeat.start()
        prepare = partial(prepare_job, lease, heartbeat, replace(self._parts, agent=agent))
        if agent is self._substitute or not lease.kind.makes_experiment:
            self._take(lease, heartbeat, prepare, is_spare=agent is self._substitute)
        else:
            self._drafting, self._reported_when_asked = lease, self.reported
            self._ask(prepare, partial(self._take, lease, heartbeat))

    def _take(
        self, lease: GrantedLease, heartbeat: LeaseHeartbeat, prepare: Callable[[], Job], *, is_spare: bool = False
    ) -> None:
        """Take a job that is ready for the device."""
        if lease is self._drafting:
            self._drafting = None
        try:
            job = prepare()
            job.is_spare = is_spare
        except Exception as error:  # noqa: BLE001 - an error of one job must not end the worker
            heartbeat.stop()
            self._fail(lease, error)
            return
        finally:
            self._show_trouble()
        with self._changed:
            self._ready.append(job)
            is_surplus = self._has_enough(self._count_planned() - 1)
            if is_surplus:
                job = next((job for job in self._ready if job.is_spare), job)
                self._ready.remove(job)
            self._changed.notify_all()
        if is_surplus:
            self._drop(job, "enough other jobs are done")

    def _show_trouble(self) -> None:
        """Show what is wrong with the agent, when that has changed."""
        if (trouble := self._parts.agent.trouble) != self._trouble:
            self._trouble = trouble
            self._parts.events.handle(AgentTrouble(trouble))

    def _finish(self, job: Job) -> None:
        """Let a returned job be repaired, so that it is measured again, or its finding be written."""
        if job.error is not None:
            self._fail_job(job, job.error)
            return
        conclude = partial(_conclude, job, self._parts)
        is_quick = job.plan is None or (self._substitute is not None and job.plan.draft.agent != self._parts.agent.name)
        self._finishing.append(job)
        if is_quick:
            self._report(job, conclude)
        else:
            self._ask(conclude, partial(self._report, job))

    def _report(self, job: Job, conclude: Callable[[], bool]) -> None:
        """Report a job that has its finding, or let a repaired one be measured again."""
        self._finishing.remove(job)
        try:
            is_repaired = conclude()
        except Exception as error:  # noqa: BLE001 - as above
            self._fail_job(job, error)
            return
        if is_repaired:
            with self._changed:
                self._ready.appendleft(job)
                self._changed.notify_all()
            return
        release_result(job, self._parts)
        self._claimer.record_success()
        self.reported += 1
        report_result(job, self._parts)

    def _drop_returned(self, job: Job) -> None:
        """Drop a job that was returned too late to be finished; a result is delivered by the next process."""
        if job.stored is not None:
            show_summary(job, self._parts, ResultPlace())
            job.heartbeat.stop()
        else:
            self._drop(job, str(job.error or "the worker is stopping"))

    def _drop(self, job: Job, reason: str) -> None:
        job.heartbeat.stop()
        self._give_back(job.lease, reason)

    def _fail_job(self, job: Job, error: Exception) -> None:
        job.heartbeat.stop()
        self._fail(job.lease, error)

    def _fail(self, lease: GrantedLease, error: Exception) -> None:
        """Give back a job without a result, and raise the errors that end the worker."""
        if isinstance(error, LeaseLost):
            self._parts.warn(f"the job is no longer ours: {error}")
            self._parts.events.handle(JobDropped(lease))
            return
        reason = str(error) or type(error).__name__
        is_first = isinstance(error, RunImpossible) and not self.reported
        if isinstance(error, Unauthorized | HeartbeatDied | MachineFault) or is_first:
            self._give_back(lease, reason)
            raise error
        if isinstance(error, AgentFinished):
            self.finished = reason
        elif isinstance(error, AssignmentImpossible):  # another kind of job is asked for at once
            self._parts.notify(f"the job is given back: {reason}")
        elif isinstance(error, RunImpossible) or not isinstance(error, Draining | RunStopped):
            if not isinstance(error, _EXPECTED):
                record_crash(self._crash_log, error)
                reason = f"an error in the worker's code: {type(error).__name__}: {reason}"
                self._parts.warn(f"please report this error; its details are in {self._crash_log}")
            self._parts.warn(f"the job failed: {reason}")
            self._claimer.record_failure()
        self._give_back(lease, reason)

    def _give_back(self, lease: GrantedLease, reason: str) -> None:
        """Release the lease if the coordinator answers; otherwise it expires."""
        request = ReleaseRequest(token=lease.token, reason=" ".join(reason.split())[:200] or "no reason")
        try:
            self._parts.client_for(lease).release(lease.id, request)
        except ClientError as error:
            self._parts.notify(f"the job could not be given back, its lease will expire: {error}")
        self._claimer.record_release()
        self._parts.events.handle(JobDropped(lease))


def _conclude(job: Job, parts: WorkerParts) -> bool:
    """Repair a job whose run crashed, and return True, or write its finding."""
    if job.needs_repair and repair_job(job, parts):
        return True
    write_finding(job, parts)
    job.heartbeat.stop()
    job.heartbeat.check()
    return False


def record_crash(path: Path, error: Exception) -> None:
    """Append the traceback of an unexpected error to a file, unless the disk is full."""
    with suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(f"{now().isoformat()}\n")
        traceback.print_exception(error, file=file)
