"""One measurement: three sandboxed processes and one clock.

Trainer, model host and scorer all start at once, so that their imports overlap; the budget starts only when all three
are ready, so that nothing else runs while the commit trains. The trainer is ended before its weights are looked at.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import Event
from uuid import uuid4

from shared.leases import Phase
from shared.protocol import now
from shared.runs import CurvePoint, RunOutcome, RunReport, RunSeconds
from worker.cores import claim_cores
from worker.harness import HarnessFault, HarnessLate, HarnessProcess, HarnessUnready, Place
from worker.messages import (
    BeginHost,
    BeginScorer,
    BeginTrainer,
    Forward,
    Load,
    Loaded,
    Logits,
    Rejected,
    Scored,
    Start,
    Started,
    Trained,
    TrainingProgress,
)
from worker.sandbox import Limits
from worker.sandbox.memory import SharedMemory
from worker.training.curve import LossCurve
from worker.training.job import Progress, RunImpossible, TrainingJob
from worker.worktree import write_worktree

MIB = 1024 * 1024
MAX_ROWS, MAX_LOGITS_BYTES = 32, 64 * MIB
"""A batch to be scored has at most so many windows, and takes at most so much memory, but has one window at least."""

TELL_SECONDS = 0.5
PAUSE_SECONDS = 0.002
"""Between two messages of progress: a trainer that floods waits for us, and not the reverse."""


class RunFailed(Exception):
    """The run has no metric; `outcome` and `reason` (a sentence) say why."""

    def __init__(self, outcome: RunOutcome, reason: str, frame: str = "") -> None:
        super().__init__(reason)
        self.outcome, self.reason, self.frame = outcome, reason, frame


class Run:
    """A measurement while it goes on. Times are seconds on the monotonic clock."""

    def __init__(self, job: TrainingJob, on_progress: Callable[[Progress], None], stop: Event) -> None:
        self._job = job
        self._contract = job.contract
        self._tell = on_progress
        self._stop = stop
        self._started_at: datetime = now()
        self._begun = time.monotonic()
        self._budget_begun: float | None = None
        self._trained_at: float | None = None
        self._curve = LossCurve()
        self._tokens = 0
        self._parameters = 0

    def measure(self) -> RunReport:
        """Run it to its end. Raises Stopped, HarnessUnready and RunImpossible."""
        outcome, failure, scored = RunOutcome.OK, None, None
        with ExitStack() as stack:
            self._open(stack)
            try:
                self._start()
                size = self._train()
                scored = self._score(size)
            except RunFailed as error:
                outcome, failure = error.outcome, error
            ended_at = time.monotonic()
            blamed = self._trainer if self._trained_at is None or failure is None else self._host
            log_tail = blamed.end().log_tail
        return RunReport(
            id=uuid4(),
            commit_sha=self._job.commit_sha,
            seed=self._job.seed,
            outcome=outcome,
            metric=scored.metric if scored else None,
            reason=failure.reason[:1000] if failure else "",
            frame=failure.frame[:1000] if failure else "",
            started_at=self._started_at,
            finished_at=now(),
            seconds=self._seconds(ended_at),
            steps=self._curve.last.step if self._curve.last else 0,
            tokens=self._tokens,
            parameters=self._parameters,
            scored_bytes=scored.scored_bytes if scored else 0,
            peak_memory_mib=self._trainer.peak_memory_mib,
            curve=self._curve.thinned(),
            log_tail=log_tail,
            hardware=self._job.hardware,
            sandbox=self._job.sandbox.name,
        )

    def _open(self, stack: ExitStack) -> None:
        """Write the work trees, make the shared memory, start the three processes."""
        job, limits, data = self._job, self._contract.limits, self._job.data
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swarm-run-")))
        folder.chmod(0o755)
        protected = {path: text for path, text in job.files.items() if path not in self._contract.files.editable}
        cores = stack.enter_context(claim_cores(job.cores))
        whole = Place(
            job.sandbox,
            write_worktree(folder / "whole", job.files),
            Limits(limits.memory_mib, limits.processes, max(limits.disk_mib, limits.weights_mib)),
            self._stop,
            cores,
            job.device,
        )
        # The scorer never sees an edited file.
        scoring = replace(whole, folder=write_worktree(folder / "protected", protected), device="cpu")
        row_bytes = data.sequence_length * data.vocab_size * 4
        self._rows = max(1, min(MAX_ROWS, MAX_LOGITS_BYTES // row_bytes))
        self._weights = stack.enter_context(SharedMemory("weights", limits.weights_mib * MIB))
        self._windows = stack.enter_context(SharedMemory("tokens", self._rows * data.sequence_length * 8))
        self._logits = stack.enter_context(SharedMemory("logits", self._rows * row_bytes))
        self._train_data = stack.enter_context(SharedMemory.of_file("train", data.train))
        self._validation_data = stack.enter_context(SharedMemory.of_file("validation", data.validation))
        commands = self._contract.commands
        self._trainer = stack.enter_context(HarnessProcess("the trainer", commands.trainer, whole))
        self._host = stack.enter_context(HarnessProcess("the model host", commands.host, whole))
        self._scorer = stack.enter_context(HarnessProcess("the scorer", commands.scorer, scoring))

    def _start(self) -> None:
        """Bring all three to where only the budget is missing, and start it."""
        job, budget = self._job, self._contract.budget
        self._say(Phase.STARTING)
        self._trainer.await_ready()
        begin = BeginTrainer(
            editable=self._contract.files.editable,
            device=job.device,
            seed=job.seed,
            vocab_size=job.data.vocab_size,
            sequence_length=job.data.sequence_length,
            training_seconds=budget.training_seconds,
            handover_seconds=budget.handover_seconds,
            weights_bytes=self._weights.size,
        )
        late = f"starting took more than {budget.starting_seconds:g} s: train(ctx, model) did not call ctx.start()"
        with _blamed_on_commit(late):
            self._trainer.send(begin, [self._weights.descriptor])
            self._trainer.expect(Start, deadline=self._begun + budget.starting_seconds)
        self._host.await_ready()
        self._scorer.await_ready()
        self._budget_begun = time.monotonic()  # before the answer: no commit gains from a supervisor that is slow
        with _blamed_on_commit(late):
            self._trainer.send(Started(), [self._train_data.descriptor])

    def _train(self) -> int:
        """Follow the training to its end and return the size of the weights in bytes."""
        assert self._budget_begun is not None
        budget = self._contract.budget
        deadline = self._budget_begun + budget.training_seconds + budget.handover_seconds
        late = (
            f"training and handing over the weights took more than "
            f"{budget.training_seconds:g} + {budget.handover_seconds:g} s: train(ctx, model) did not return in time"
        )
        self._say(Phase.TRAINING)
        with _blamed_on_commit(late):
            while isinstance(
                message := self._trainer.expect(TrainingProgress, Trained, deadline=deadline), TrainingProgress
            ):
                self._note(message, time.monotonic() - self._budget_begun)
                time.sleep(PAUSE_SECONDS)
        self._trained_at = time.monotonic()
        self._tokens = message.tokens
        if message.size > self._weights.size:
            raise RunFailed(RunOutcome.CRASHED, "the trainer handed over more weights than there is room for")
        return message.size

    def _score(self, size: int) -> Scored:
        """Let the scorer question the model; `size` is that of its weights in bytes."""
        job = self._job
        self._say(Phase.SCORING)
        self._trainer.end()
        self._weights.freeze()
        deadline = time.monotonic() + self._contract.budget.scoring_seconds
        late = f"scoring took more than {self._contract.budget.scoring_seconds:g} s"
        shapes = {
            "vocab_size": job.data.vocab_size,
            "sequence_length": job.data.sequence_length,
            "rows": self._rows,
        }
        shared = [self._windows.descriptor, self._logits.descriptor]
        with _blamed_on_commit(late):
            begin = BeginHost(editable=self._contract.files.editable, device=job.device, seed=job.seed, **shapes)
            self._host.send(begin, shared)
            self._host.send(Load(size=size), [self._weights.descriptor])
            self._parameters = self._host.expect(Loaded, deadline=deadline).parameters
        begin_scorer = BeginScorer(**shapes, settings=self._contract.data.settings)
        self._scorer.send(begin_scorer, [self._validation_data.descriptor, *shared])
        while isinstance(message := self._from_scorer(deadline, late), Forward):
            with _blamed_on_commit(late):
                self._host.send(message)
                self._host.expect(Logits, deadline=deadline)
            self._scorer.send(Logits())
        if isinstance(message, Rejected):
            raise RunFailed(RunOutcome.INVALID, message.reason)
        return message

    def _from_scorer(self, deadline: float, late: str) -> Forward | Scored | Rejected:
        """The scorer's next message. It is protected code: if it breaks, the commit is not to blame."""
        try:
            return self._scorer.expect(Forward, Scored, Rejected, deadline=deadline)
        except HarnessLate as fault:
            raise RunFailed(RunOutcome.TIMEOUT, late) from fault
        except HarnessFault as fault:
            raise RunImpossible(f"the project's scorer failed: {fault.reason}") from fault

    def _note(self, message: TrainingProgress, seconds: float) -> None:
        self._tokens = message.tokens
        self._curve.add(CurvePoint(step=message.step, seconds=seconds, loss=message.loss))
        if time.monotonic() >= self._told_at + TELL_SECONDS:
            self._say(Phase.TRAINING)

    def _say(self, phase: Phase) -> None:
        """Tell how far the run is."""
        self._told_at = time.monotonic()
        last, share = self._curve.last, 0.0
        if self._budget_begun is not None:
            share = min(1.0, (self._told_at - self._budget_begun) / self._contract.budget.training_seconds)
        self._tell(Progress(phase, last.step if last else 0, last.loss if last else None, share))

    def _seconds(self, ended_at: float) -> RunSeconds:
        """Where the time went, of a run that may have ended in any phase."""
        budget_begun = self._budget_begun or ended_at
        trained_at = self._trained_at or ended_at
        return RunSeconds(
            starting=budget_begun - self._begun,
            training=trained_at - budget_begun,
            scoring=ended_at - trained_at,
            total=ended_at - self._begun,
        )


@contextmanager
def _blamed_on_commit(late: str) -> Iterator[None]:
    """Faults of a process that runs the edited file are the run's outcome; `late` is the sentence for lateness."""
    try:
        yield
    except HarnessUnready:
        raise
    except HarnessLate as fault:
        raise RunFailed(RunOutcome.TIMEOUT, late) from fault
    except HarnessFault as fault:
        raise RunFailed(RunOutcome.CRASHED, fault.reason, fault.frame) from fault
