"""The sandboxed trainer, hosts and scorer of a run, and the memory that they share.

Each host shares two memories of its own with the scorer, so that nothing passes from one host to the next.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from hashlib import scrypt, sha256
from threading import Event
from typing import Any

from shared.contract import BudgetClock
from worker.machine.hardware import claim_cores
from worker.runs.harness_process import HarnessFault, HarnessProcess
from worker.runs.harness_protocol import (
    BeginHost,
    BeginScorer,
    BeginSubstitute,
    BeginTrainer,
    Imported,
    Load,
    Loaded,
    Substituted,
)
from worker.runs.spec import RunImpossible, RunSpec
from worker.runs.started_trainer import StartedTrainer
from worker.sandbox.base import MIB
from worker.sandbox.shared_memory import SharedMemory


@dataclass(frozen=True)
class Host:
    """A host process and the descriptors of the memories that it shares with the scorer alone."""

    process: HarnessProcess
    shared: list[int]


class RunProcesses:
    """Starts the processes of a run. They end, and the memory is freed, when the stack closes."""

    def __init__(self, spec: RunSpec, stop: Event, stack: ExitStack) -> None:
        """Write the work trees, start the trainer, fill the shared memory."""
        self._spec, self._stack = spec, stack
        contract, limits = spec.contract, spec.contract.limits
        editable = contract.files.editable
        facts, settings = spec.data.needs.facts, contract.data.settings
        self._begin: dict[str, Any] = {"device": spec.device, "facts": facts, "settings": settings}
        self._begin_edited = self._begin | {"editable": editable, "seed": derive_training_seed(spec.seed)}
        self._editable_bytes = sum(len(spec.files[path].encode()) for path in editable if path in spec.files)
        self.cores = stack.enter_context(claim_cores(spec.cores))
        started = spec.ahead.take(spec.files, contract, self.cores) if spec.ahead is not None else None
        started = started or StartedTrainer(spec.files, contract, spec.device, spec.sandbox, self.cores, stop)
        self._started = stack.enter_context(started)
        self.trainer = started.process
        self.handover = stack.enter_context(SharedMemory("handover", limits.weights_mib * MIB))
        self._results: list[SharedMemory] = []
        self._result: SharedMemory | None = None  # of the current host, until it is loaded
        # While the trainer imports:
        self.train_data = stack.enter_context(SharedMemory.of_file("train", spec.data.train))
        self._validation_data = stack.enter_context(SharedMemory.of_file("validation", spec.data.validation))
        self._substitution: HarnessProcess | None = None
        if (module := contract.commands.substitute) is not None:
            self._substitution = stack.enter_context(HarnessProcess("the substitution", module, started.protected))
        self._waiting: list[Host] = []
        self._hosts_started = 0
        self._scorer: HarnessProcess | None = None
        self._is_sealed = False
        self.host: Host | None = None

    @property
    def scorer(self) -> HarnessProcess:
        assert self._scorer is not None, "start_scoring was not called"
        return self._scorer

    def start_scoring(self) -> None:
        """Start the scorer and the first host. Idempotent."""
        if self._scorer is None:
            commands = self._spec.contract.commands
            module = (commands.holdout if self._is_sealed else None) or commands.scorer
            self._scorer = self._stack.enter_context(HarnessProcess("the scorer", module, self._started.protected))
            self._start_host()

    def turn_to_sealed(self) -> None:
        """End the scorer and its hosts. Those started from now on score the sealed data."""
        assert self.host is not None
        for process in (self.scorer, self.host.process, *(host.process for host in self._waiting)):
            process.end()
        os.lseek(self._validation_data.descriptor, 0, os.SEEK_SET)  # the first scorer has read it to its end
        self._scorer, self.host, self._result, self._is_sealed = None, None, None, True
        self._waiting, self._results, self._hosts_started = [], [], 0

    def start_other_hosts(self) -> None:
        """Start all hosts that the scorer may ask for. Idempotent."""
        self.start_scoring()
        while self._hosts_started < self._spec.data.needs.hosts:
            self._start_host()

    def _start_host(self) -> None:
        self._hosts_started += 1
        name = "the model host" if self._hosts_started == 1 else f"model host {self._hosts_started}"
        needs, enter = self._spec.data.needs, self._stack.enter_context
        process = enter(HarnessProcess(name, self._spec.contract.commands.host, self._started.whole))
        request = enter(SharedMemory("request", needs.request_bytes))
        answer = enter(SharedMemory("answer", needs.answer_bytes))
        self._waiting.append(Host(process, [request.descriptor, answer.descriptor]))

    def await_scoring(self) -> None:
        """Wait for the imports of the scorer and the started hosts. Raises HarnessNotReady."""
        for process in (self.scorer, *(host.process for host in self._waiting)):
            process.await_ready()

    def substitute_data(self, deadline: float) -> None:
        """Give this run data in symbols of its own, if the contract says so. Raises RunImpossible."""
        process, before = self._substitution, (self.train_data, self._validation_data)
        if process is None:
            return
        after = [self._stack.enter_context(SharedMemory("own data", memory.size, True)) for memory in before]
        try:
            process.await_ready()
            begin = BeginSubstitute(
                facts=self._begin["facts"], settings=self._begin["settings"], draw=derive_substitution(self._spec.seed)
            )
            process.send(begin, [memory.descriptor for memory in (*before, *after)])
            process.expect(Substituted, deadline=deadline)
        except HarnessFault as fault:
            raise RunImpossible(f"the project's substitution of symbols failed: {fault.reason}") from fault
        process.end()
        for memory in after:
            os.lseek(memory.descriptor, 0, os.SEEK_SET)  # receivers share this position
            memory.freeze()
        self.train_data, self._validation_data = after

    def begin_trainer(self, clock: BudgetClock) -> None:
        """Let the trainer build and warm up; `clock` counts its budget. Raises HarnessFault."""
        spec, budget = self._spec, self._spec.contract.budget
        message = BeginTrainer(
            **self._begin_edited,
            clock=clock,
            training_seconds=budget.training_seconds,
            handover_seconds=budget.handover_seconds,
            handover_bytes=self.handover.size,
        )
        if spec.compiled is None:
            self.trainer.send(message, [self.handover.descriptor])
            return
        # For the trainer alone, and frozen: hosts and scorer must not run code that was compiled elsewhere.
        with SharedMemory.of_file("compiled", spec.compiled) as compiled:
            self.trainer.send(message, [self.handover.descriptor, compiled.descriptor])

    def copy_result(self, size: int) -> None:
        """Copy the first `size` bytes of the ended trainer's result, once for each host.

        Further bytes would not count in the score, and hosts could leave notes in the attributes of a shared file.
        """
        for _ in range(self._spec.data.needs.hosts):
            self._results.append(self._stack.enter_context(self.handover.copy_start("result", size)))

    def take_next_host(self) -> None:
        """End the current host. Raises RunImpossible if there is no further one, and HarnessNotReady."""
        if self.host is not None:
            self.host.process.end()
        if not self._waiting:
            raise RunImpossible("the project's scorer asked for more hosts than its prepare did")
        self.host, self._result = self._waiting.pop(0), self._results.pop()
        self.host.process.await_ready()

    def begin_host(self, deadline: float) -> None:
        """Let the current host import the edited file, which does not reach the result yet. Raises HarnessFault."""
        assert self.host is not None
        self.host.process.send(BeginHost(**self._begin_edited), self.host.shared)
        self.host.process.expect(Imported, deadline=deadline)

    def load_host(self, deadline: float) -> int | None:
        """Let the current host load the result, once; the number of its parameters. Raises HarnessFault."""
        assert self.host is not None
        if self._result is None:
            return None
        process, result, self._result = self.host.process, self._result, None
        process.send(Load(size=result.size), [result.descriptor])
        return process.expect(Loaded, deadline=deadline).parameters

    def begin_scorer(self, size: int) -> None:
        """Let the scorer question the current host about the result of `size` bytes. Raises HarnessFault."""
        assert self.host is not None
        key = self._spec.holdout_key if self._is_sealed else None
        begin = BeginScorer(
            **self._begin,
            size=size,
            editable_bytes=self._editable_bytes,
            draw=key or derive_draw(self._spec.seed),
            sealed=self._is_sealed,
        )
        self.scorer.send(begin, [self._validation_data.descriptor, *self.host.shared])


TRAINING_SEEDS = 2**16
"""Different seeds that edited files are told: many enough for random weights, and few beside the seeds of leases."""


def derive_training_seed(seed: int) -> int:
    """The seed of trainer and hosts, below TRAINING_SEEDS."""
    return int.from_bytes(_digest("training", seed)) % TRAINING_SEEDS


def derive_draw(seed: int) -> str:
    """The scorer's source of windows: 64 hexadecimal digits."""
    return _digest("windows", seed).hex()


def derive_substitution(seed: int) -> str:
    """The source of a run's own symbols: 64 hexadecimal digits."""
    return _digest("substitution", seed).hex()


def _digest(purpose: str, seed: int) -> bytes:
    return sha256(purpose.encode() + _stretch(seed)).digest()


@lru_cache(maxsize=32)
def _stretch(seed: int) -> bytes:
    """A secret of the lease's seed that all else is derived from; a guess at the seed takes some 30 ms and 16 MiB.

    Without that price an edited file could try all 2 ** 31 seeds until one fits what it is told and what its data look
    like, and so foresee the rest.
    """
    return scrypt(seed.to_bytes(8), salt=b"swarm", n=2**14, r=8, p=1)
