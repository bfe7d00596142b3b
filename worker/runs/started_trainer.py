"""A trainer's process from its start on: until a run begins with it, it imports torch and runs no experiment's code.

While one run is scored, `TrainerAhead` already starts the trainer of the next, because imports take seconds. It takes
nothing from what is measured: the budget begins later, no memory of a GPU is used before a model is built, and it is
started only where a few seconds of a core change nothing that counts in the scoring.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Self

import psutil

from shared.contract import Budget, BudgetClock, Contract
from worker.git.repository import write_worktree
from worker.machine.scratch import make_scratch
from worker.runs.harness_process import HarnessNotReady, HarnessProcess, ProcessSetup, Stopped
from worker.sandbox.base import MIB, ProcessLimits, Sandbox, SandboxRequest, SandboxUnavailable

if TYPE_CHECKING:  # runner.py imports this module
    from worker.runs.runner import RunRequest

AHEAD_MEMORY_MIB = 2048
"""Memory that has to be available for a trainer ahead: several times what one takes before its run begins."""

COARSE_SECONDS = 5.0
"""A limit on a GPU's answers that is no shorter is not reached because a core imports torch meanwhile."""

SPARE_CORES = 4
"""A worker with so many cores has one to spare while it scores; with two the scoring took longer by what was saved."""


class StartedTrainer:
    """A context manager: leaving it ends the processes and removes their folder, which holds their work trees.

    `whole` is the setup of all processes that see the edited files, `protected` that of the others.
    """

    def __init__(
        self,
        files: Mapping[str, str],
        contract: Contract,
        device: str,
        sandbox: Sandbox,
        cores: frozenset[int],
        stop: Event,
    ) -> None:
        limits = contract.limits
        self._key = _describe(files, contract, cores)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(make_scratch("run")))
            folder.chmod(0o755)
            request = SandboxRequest(
                (),
                ProcessLimits(limits.memory_mib, limits.processes, max(limits.disk_mib, limits.weights_mib)),
                write_worktree(folder / "whole", files),
                cores=cores,
                device=device,
                counts_cpu_time=contract.budget.clock is BudgetClock.CPU,
            )
            self.whole = ProcessSetup(sandbox, request, stop)
            self.process = stack.enter_context(HarnessProcess("the trainer", contract.commands.trainer, self.whole))
            # The scorer never sees an edited file.
            others = {path: text for path, text in files.items() if path not in contract.files.editable}
            own_folder = write_worktree(folder / "protected", others)
            self.protected = replace(self.whole, request=replace(request, folder=own_folder))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        self._stack.close()

    def fits(self, files: Mapping[str, str], contract: Contract, cores: frozenset[int]) -> bool:
        """Whether a run of these files would start the same process."""
        return _describe(files, contract, cores) == self._key


def _describe(files: Mapping[str, str], contract: Contract, cores: frozenset[int]) -> tuple[object, ...]:
    """All that decides which process is started, but for the worker's own device and sandbox."""
    return files, contract.limits, contract.files, contract.commands, contract.budget.clock, cores


class TrainerAhead:
    """Keeps at most one trainer, for the run of `following()`. For one thread, which must live as long as that run."""

    def __init__(self, device: str, sandbox: Sandbox) -> None:
        self._device, self._sandbox = device, sandbox
        self._started: StartedTrainer | None = None
        self.following: Callable[[], RunRequest | None] = lambda: None

    def start(self, budget: Budget, cores: frozenset[int], stop: Event) -> None:
        """Start it, if that run is known, while one with this budget is scored on these cores.

        Not where that would disturb it. Where it cannot be started, the next run starts its own.
        """
        if self._started is not None or not self._disturbs_nothing(budget, cores):
            return
        if (request := self.following()) is not None:
            with suppress(OSError, SandboxUnavailable):
                self._started = StartedTrainer(
                    request.files, request.contract, self._device, self._sandbox, cores, stop
                )

    def _disturbs_nothing(self, budget: Budget, cores: frozenset[int]) -> bool:
        """Whether nothing of the scoring is measured by wall time on cores that the trainer's start would share."""
        if psutil.virtual_memory().available < AHEAD_MEMORY_MIB * MIB or len(cores) < SPARE_CORES:
            return False
        if self._device == "cpu":
            return budget.clock is BudgetClock.CPU
        return budget.answer_seconds is None or budget.answer_seconds >= COARSE_SECONDS

    def take(self, files: Mapping[str, str], contract: Contract, cores: frozenset[int]) -> StartedTrainer | None:
        """The trainer, once, if it lives and is such a run's; None otherwise."""
        started, self._started = self._started, None
        if started is not None and started.fits(files, contract, cores):
            with suppress(HarnessNotReady, Stopped):  # a run of its own says why
                started.process.await_ready()
                if not started.process.has_ended:
                    return started
        if started is not None:
            started.end()
        return None

    def drop(self) -> None:
        """End the trainer, if there is one."""
        if self._started is not None:
            self._started.end()
        self._started = None
