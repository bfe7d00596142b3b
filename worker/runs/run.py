"""One measurement: sandboxed processes and the budget's clock.

On a CPU, trainer, scorer and first host start together, then further hosts, and the budget starts when all are ready,
so that nothing else runs while the commit trains. With a GPU, scorer and hosts start while training ends. The trainer
is ended before its result is read. While a run is scored, the trainer of the next may start (started_trainer.py).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from threading import Event
from typing import NoReturn
from uuid import uuid4

from shared.contract import BudgetClock
from shared.faults import find_fault
from shared.findings import FailureClass
from shared.formatting import format_run
from shared.leases import Phase
from shared.protocol import MAX_READING, now
from shared.runs import CurvePoint, RunOutcome, RunReport, RunSeconds
from worker.machine.faults import explain
from worker.runs.early_stop import EarlyStop
from worker.runs.harness_process import HarnessFault, HarnessNotReady, HarnessTimeout
from worker.runs.harness_protocol import (
    Answered,
    Ask,
    Renew,
    Renewed,
    Scored,
    ScoreRejected,
    Start,
    Started,
    Trained,
    TrainingProgress,
)
from worker.runs.processes import RunProcesses
from worker.runs.report import LossCurve, find_frame
from worker.runs.run_clock import RunClock
from worker.runs.spec import MachineFault, RunImpossible, RunProgress, RunSpec
from worker.runs.throughput import WARM_UP_SHARE
from worker.runs.validate import find_excess

REPORT_INTERVAL_SECONDS = 0.5
PAUSE_SECONDS = 0.002
"""Pause between two messages of progress, so that a trainer that floods slows itself down."""

SCORING_LEAD_SECONDS = 20.0
"""With a GPU, scorer and hosts start this long before the budget ends, to import torch from a cold disk."""


class RunFailed(Exception):
    """The run has no metric; `outcome` and `reason` (a sentence) say why."""

    def __init__(self, outcome: RunOutcome, reason: str, frame: str = "") -> None:
        super().__init__(reason)
        self.outcome, self.reason, self.frame = outcome, reason, frame


class ActiveRun:
    """A measurement while it goes on. Times are seconds on the monotonic clock."""

    def __init__(self, spec: RunSpec, on_progress: Callable[[RunProgress], None], stop: Event) -> None:
        self._spec, self._budget = spec, spec.contract.budget
        self._on_progress, self._stop = on_progress, stop
        self._begun = time.monotonic()
        self._budget_begun: float | None = None
        self._trained_at: float | None = None
        self._used_seconds = self._charge = 0.0
        self._curve = LossCurve()
        self._early_stop = EarlyStop(spec.parent_curve, self._budget.training_seconds)
        self._tokens = self._parameters = self._device_memory_mib = 0
        self._scoring_ends = 0.0
        self._holdout_metric: float | None = None
        self._will_score = True
        self._work: list[tuple[float, float, float]] = []  # of a probe: seconds of the budget, steps, tokens
        self._scored_late = f"scoring took more than {self._budget.scoring_seconds:g} s"

    def measure(self) -> RunReport:
        """Run to the end. Raises Stopped, HarnessNotReady and RunImpossible."""
        report = self._carry_out(self._score)
        assert report is not None
        return report

    def try_out(self) -> RunReport | None:
        """Run until the first host has loaded the result; None if that succeeds. Raises as `measure` does."""
        return self._carry_out(self._load)

    def probe(self) -> float | None:
        """Train only; returns tokens (or steps) a second after the warm-up, None where training fails or is too short.

        Raises as `measure` does.
        """
        self._will_score = False
        self._carry_out(lambda _: None)
        before = [point for point in self._work if point[0] >= WARM_UP_SHARE * self._budget.training_seconds]
        if len(before) < 2 or self._trained_at is None:
            return None
        seconds, *done = (last - first for first, last in zip(before[0], before[-1], strict=True))
        work = next((count for count in reversed(done) if count > 0), 0.0)
        return work / seconds if seconds > 0 and work > 0 else None

    def _carry_out(self, finish: Callable[[int], Scored | None]) -> RunReport | None:
        """Start, train, then `finish` with the size of the result; None if `finish` returns None."""
        outcome, failure, scored = RunOutcome.OK, None, None
        with ExitStack() as stack:
            self._processes = RunProcesses(self._spec, self._stop, stack)
            # A GPU's work takes no CPU time.
            kind = self._budget.clock if self._spec.device == "cpu" else BudgetClock.WALL
            self._clock = RunClock(kind, self._processes.trainer, self._spec.cores)
            try:
                if excess := find_excess(self._spec.files, self._spec.contract.files):
                    raise RunFailed(RunOutcome.INVALID, excess)
                self._start()
                scored = finish(self._train())
            except RunFailed as error:
                outcome, failure = error.outcome, error
            ended_at, used_seconds = time.monotonic(), self._used_seconds or self._clock.used(newest=True)
            blamed, host = self._processes.trainer, self._processes.host
            if host is not None and failure is not None:
                blamed = host.process
            log_tail = blamed.end(print_stacks=outcome is RunOutcome.TIMEOUT).log_tail
        if scored is None and failure is None:
            return None
        # The run may have ended in any phase.
        budget_begun, trained_at = self._budget_begun or ended_at, self._trained_at or ended_at
        editable = self._spec.contract.files.editable
        finished_at = now() - timedelta(seconds=time.monotonic() - ended_at)
        frame = (failure.frame or find_frame(log_tail, self._spec.files, editable)) if failure else ""
        return RunReport(
            id=uuid4(),
            commit_sha=self._spec.commit_sha,
            seed=self._spec.seed,
            outcome=outcome,
            metric=scored.metric if scored else None,
            holdout_metric=self._holdout_metric if scored else None,
            reason=failure.reason[:1000] if failure else "",
            frame=frame[:1000],
            started_at=finished_at - timedelta(seconds=ended_at - self._begun),  # the clock may have been set meanwhile
            finished_at=finished_at,
            seconds=RunSeconds(
                starting=budget_begun - self._begun,
                training=trained_at - budget_begun,
                scoring=ended_at - trained_at,
                total=ended_at - self._begun,
                budget=used_seconds,
                before_start=self._clock.before_start,
            ),
            steps=self._curve.last.step if self._curve.last else 0,
            tokens=self._tokens,
            parameters=self._parameters,
            scored_bytes=scored.scored_bytes if scored else 0,
            peak_memory_mib=self._peak_memory_mib(),
            curve=self._curve.thinned(),
            log_tail=log_tail,
            hopeless_at=self._early_stop.hopeless_at,
            hardware=self._spec.hardware,
            sandbox=self._spec.sandbox.name,
            limits=list(self._spec.sandbox.limits),
        )

    def _start(self) -> None:
        """Prepare all processes, then start the budget."""
        self._report(Phase.STARTING)
        trainer = self._processes.trainer
        starts_scoring = self._spec.device == "cpu" and self._will_score
        if starts_scoring:
            self._processes.start_scoring()
            self._processes.await_scoring()
            self._processes.start_other_hosts()  # only now: two cores have had enough to do
        trainer.await_ready()
        late = f"starting took more than {self._budget.starting_seconds:g} s: ctx.start() was not called"
        self._clock.begin_edited()
        with _blamed_on_commit(late):
            self._processes.begin_trainer(self._clock.kind)
            trainer.expect(Start, deadline=self._begun + self._budget.starting_seconds)
        if starts_scoring:
            self._processes.await_scoring()
        self._processes.substitute_data(self._begun + self._budget.starting_seconds)
        # Before the answer, so that no commit gains from a slow worker.
        self._clock.start_budget()
        self._budget_begun = time.monotonic()
        self._charge = self._budget.charge(self._clock.before_start)
        left = self._budget.training_seconds - self._charge
        if left <= 0:
            raise RunFailed(
                RunOutcome.TIMEOUT,
                f"before ctx.start() the edited file took {self._clock.before_start:.1f} s: what exceeds the free "
                f"{self._budget.warm_up_seconds:g} s is more than the whole budget",
            )
        with _blamed_on_commit(late):
            trainer.send(Started(training_seconds=left), [self._processes.train_data.descriptor])

    def _train(self) -> int:
        """Follow the training to its end; returns the result's size in bytes."""
        assert self._budget_begun is not None
        self._report(Phase.TRAINING)
        while not isinstance(message := self._from_trainer(), Trained):
            self._record(message, self._clock.used(newest=not self._will_score))
            time.sleep(PAUSE_SECONDS)
        self._trained_at, self._used_seconds = time.monotonic(), self._clock.used(newest=True)
        if self._clock.kind is BudgetClock.CPU and self._used_seconds > self._limit_seconds:
            raise RunFailed(RunOutcome.TIMEOUT, self._describe_lateness())
        self._count(message)
        if message.size > self._processes.handover.size:
            raise RunFailed(RunOutcome.CRASHED, "the trainer reports a larger result than there is room for")
        return message.size

    @property
    def _limit_seconds(self) -> float:
        """The most that training and hand-over may take on the budget's clock."""
        return self._budget.training_seconds - self._charge + self._budget.handover_seconds

    def _from_trainer(self) -> TrainingProgress | Trained:
        """The trainer's next message; with a GPU, starts scorer and hosts when it is time. Raises RunFailed."""
        assert self._budget_begun is not None
        by_cpu, has_gpu = self._clock.kind is BudgetClock.CPU, self._spec.device != "cpu"
        wall_seconds = self._limit_seconds
        if by_cpu:
            wall_seconds = self._budget.longest_training_seconds + self._budget.handover_seconds
        ends_at = self._budget_begun + wall_seconds
        scoring_at = self._budget_begun + self._budget.training_seconds - SCORING_LEAD_SECONDS
        while True:
            look_again = ends_at
            if by_cpu:
                look_again = min(ends_at, time.monotonic() + self._clock.shortest_wait(self._limit_seconds))
            elif has_gpu and time.monotonic() < scoring_at:
                look_again = min(ends_at, scoring_at)
            elif has_gpu and self._will_score:
                self._processes.start_other_hosts()
            try:
                with _blamed_on_commit(""):
                    return self._processes.trainer.expect(TrainingProgress, Trained, deadline=look_again)
            except RunFailed as error:
                if error.outcome is not RunOutcome.TIMEOUT:
                    raise
                if time.monotonic() >= ends_at or (by_cpu and self._clock.used() > self._limit_seconds):
                    raise RunFailed(RunOutcome.TIMEOUT, self._describe_lateness()) from error

    def _describe_lateness(self) -> str:
        budget, seconds, unit = self._budget, self._budget.training_seconds - self._charge, "s"
        if self._clock.kind is BudgetClock.CPU and self._clock.used() > self._limit_seconds:
            unit = "CPU seconds"
        elif self._clock.kind is BudgetClock.CPU:
            seconds, unit = budget.longest_training_seconds, "s, the limit in wall time"
        return (
            f"training and handing over the result took more than {seconds:g} + {budget.handover_seconds:g} {unit}: "
            "it did not return in time"
        )

    def _load(self, size: int) -> None:
        """Let the first host load the result of `size` bytes."""
        self._begin_host(size)
        with _blamed_on_commit(self._scored_late):
            self._processes.load_host(self._scoring_ends)

    def _begin_host(self, size: int) -> None:
        """Let the first host import the edited file, to load the result of `size` bytes when it is asked."""
        processes = self._processes
        processes.trainer.end()  # at once: until then it could go on and write a newer result over this one
        self._report(Phase.SCORING)
        if self._spec.ahead is not None:
            self._spec.ahead.start(self._budget, processes.cores, self._stop)
        processes.start_scoring()
        processes.copy_result(size)
        processes.await_scoring()
        self._scoring_ends = time.monotonic() + self._budget.scoring_seconds
        with _blamed_on_commit(self._scored_late):
            self._begin_next_host()

    def _begin_next_host(self) -> None:
        self._processes.take_next_host()
        assert self._processes.host is not None
        self._host_clock = RunClock(self._clock.kind, self._processes.host.process, self._spec.cores)
        self._host_clock.begin_edited()
        self._processes.begin_host(self._scoring_ends)
        self._check_import()
        self._answers = 0

    def _check_import(self) -> None:
        """Start the host's time for answers. Raises RunFailed if it took longer before than is free."""
        self._host_clock.start_budget()
        used, free = self._host_clock.before_start, self._budget.warm_up_seconds
        if used is not None and free is not None and used > free:
            self._fail_host(used, "before the result was in reach", free)

    def _check_host(self) -> None:
        """Raises RunFailed if the host has taken longer than the contract allows."""
        each = self._budget.answer_seconds
        if each is not None and (used := self._host_clock.used(newest=True)) > (allowed := each * (1 + self._answers)):
            self._fail_host(used, f"to load the result and to answer {self._answers} times", allowed)

    def _fail_host(self, used: float, why: str, allowed: float) -> NoReturn:
        unit = "CPU seconds" if self._clock.kind is BudgetClock.CPU else "s"
        raise RunFailed(RunOutcome.TIMEOUT, f"a model host took {used:.1f} {unit} {why}; {allowed:.1f} are allowed")

    def _score(self, size: int) -> Scored:
        """The score of the result of `size` bytes; that of the sealed data, if there is a key, is kept besides."""
        scored = self._question(size)
        if self._spec.holdout_key is not None and self._spec.contract.has_holdout:
            self._processes.turn_to_sealed()
            self._holdout_metric = self._question(size).metric
        return scored

    def _question(self, size: int) -> Scored:
        """Let the scorer question the hosts about the result of `size` bytes."""
        self._begin_host(size)
        processes = self._processes
        processes.start_other_hosts()
        processes.begin_scorer(size)
        while isinstance(message := self._from_scorer(), Ask | Renew):
            with _blamed_on_commit(self._scored_late):
                answer, shared = self._answer(message)
            with suppress(HarnessFault):  # it may have judged an earlier answer meanwhile, as its next message says
                processes.scorer.send(answer, shared)
            self._check_host()  # while the scorer copies the answer
        if isinstance(message, ScoreRejected):
            raise RunFailed(RunOutcome.INVALID, message.reason)
        if abs(message.metric) > MAX_READING:
            metric = format_run(message.metric)
            raise RunFailed(RunOutcome.INVALID, f"the metric is {metric}, out of the range of metrics")
        return message

    def _answer(self, message: Ask | Renew) -> tuple[Answered | Renewed, list[int]]:
        """The answer to the scorer, with its descriptors. A host gets the result after its first question came, and its
        time begins then: until there is one it waits for the scorer."""
        processes = self._processes
        if isinstance(message, Renew):
            self._begin_next_host()
            assert processes.host is not None
            return Renewed(), processes.host.shared
        if self._answers == 0 and self._clock.kind is BudgetClock.CPU:
            self._check_import()  # its threads may have gone on
        elif self._answers == 0:
            self._host_clock.start_budget()  # waiting took wall time, which is not the host's
        if (parameters := processes.load_host(self._scoring_ends)) is not None:
            self._parameters = parameters
        assert processes.host is not None
        processes.host.process.send(message)
        answered = processes.host.process.expect(Answered, deadline=self._scoring_ends)
        self._answers += 1
        return answered, []

    def _from_scorer(self) -> Ask | Renew | Scored | ScoreRejected:
        """The scorer's next message. Its faults are not the commit's, because it is protected code."""
        try:
            return self._processes.scorer.expect(Ask, Renew, Scored, ScoreRejected, deadline=self._scoring_ends)
        except HarnessTimeout as fault:
            raise RunFailed(RunOutcome.TIMEOUT, self._scored_late) from fault
        except HarnessFault as fault:
            known = find_fault(fault.reason)
            # Memory may be what the commit's own host took.
            is_machines = known is not None and known.failure is not FailureClass.OUT_OF_MEMORY
            kind = MachineFault if is_machines else RunImpossible
            raise kind(explain(f"the project's scorer failed: {fault.reason}")) from fault

    def _record(self, message: TrainingProgress, seconds: float) -> None:
        self._count(message)
        if not self._will_score:
            self._work.append((seconds, message.step, message.tokens))
        point = CurvePoint(step=message.step, seconds=seconds, loss=message.loss)
        self._curve.add(point)
        self._early_stop.add(point)
        if self._early_stop.hopeless_at is not None and not self._spec.run_to_end:
            raise RunFailed(RunOutcome.STOPPED_EARLY, self._early_stop.reason)
        if time.monotonic() >= self._reported_at + REPORT_INTERVAL_SECONDS:
            self._report(Phase.TRAINING)

    def _count(self, message: TrainingProgress | Trained) -> None:
        self._tokens = message.tokens
        self._device_memory_mib = max(self._device_memory_mib, message.device_memory_mib)

    def _peak_memory_mib(self) -> int:
        """The device's memory if it has its own, else that of the trainer's processes."""
        return self._device_memory_mib or self._processes.trainer.peak_memory_mib

    def _report(self, phase: Phase) -> None:
        self._reported_at = time.monotonic()
        last, share, tokens_per_second = self._curve.last, 0.0, 0.0
        if self._budget_begun is not None:
            elapsed = self._used_seconds or self._clock.used()
            share = min(1.0, elapsed / self._budget.training_seconds)
            tokens_per_second = self._tokens / elapsed if elapsed > 0 else 0.0
        self._on_progress(
            RunProgress(
                phase=phase,
                step=last.step if last else 0,
                loss=last.loss if last else None,
                share=share,
                tokens=self._tokens,
                tokens_per_second=tokens_per_second,
                peak_memory_mib=self._peak_memory_mib(),
                parent_loss=self._early_stop.parent_loss(share),
            )
        )


@contextmanager
def _blamed_on_commit(late: str) -> Iterator[None]:
    """Turn faults of a process that runs the edited file into the run's outcome; `late` describes a timeout."""
    try:
        yield
    except HarnessNotReady:
        raise
    except HarnessTimeout as fault:
        raise RunFailed(RunOutcome.TIMEOUT, late) from fault
    except HarnessFault as fault:
        raise RunFailed(RunOutcome.CRASHED, fault.reason, fault.frame) from fault
