"""`ctx`, the argument of the edited file's `train(ctx, model)`: batches, the budget's clock, and progress."""

import copy
import gc
import math
import mmap
import os
import random
import resource
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from harness.channel import Channel, Fault

LOG_SECONDS = 0.04  # minimum time between two points of the loss curve that are sent to the supervisor
HANDOVER_FACTOR = 2.0  # expected duration of the hand-over, in durations of its rehearsal
LAST_STEPS = 16  # the longest of these is the expected duration of the next step
COMPILED_FOLDER = os.path.join(tempfile.gettempdir(), "compiled")  # each run's own, deleted with its sandbox


class Context:
    """The first argument of `train`.

    Until `start()` the batches are random tokens and no time counts: compile and warm up there. `start()` then resets
    model, optimizers and random numbers, gets the training data from the supervisor, and the budget runs. It ends when
    the supervisor has the weights: `rehearse` hands them over as the end of the training will, to time that. It counts
    wall time, or CPU time of all processes of the training, as the contract's `budget.clock` says.
    """

    def __init__(self, channel: Channel, begin: dict, model: torch.nn.Module, rehearse: Callable[[], object]) -> None:
        self.device = torch.device(begin["device"])
        self.seed: int = begin["seed"]
        self._channel = channel
        self._model = model
        self._vocab_size: int = begin["facts"]["vocab_size"]
        self._length: int = begin["facts"]["sequence_length"]
        self._budget: float = begin["training_seconds"]
        self._rehearse = rehearse
        self.clock: Callable[[], float] = cpu_seconds if begin.get("clock") == "cpu" else time.monotonic
        self._asked_at = 0.0
        self._steps: deque[float] = deque([0.0], maxlen=LAST_STEPS)
        self._draw = numpy.random.default_rng(self.seed)
        self._waiting = numpy.empty(0, numpy.int64)  # where the next windows begin
        self._tokens: numpy.ndarray | None = None
        self._started_at: float | None = None
        self._next_log = 0.0
        self.has_logged = False
        self.drawn_tokens = 0
        self._model_before = copy.deepcopy(model.state_dict())
        self._optimizers_before: list[tuple[torch.optim.Optimizer, dict]] = []
        self._hook = register_optimizer_step_pre_hook(self._remember_optimizer)

    @property
    def budget_seconds(self) -> float:
        """How long the training may take, by the contract's clock; after `start()` without what the hand-over takes."""
        return self._budget

    @property
    def has_started(self) -> bool:
        return self._started_at is not None

    def start(self) -> None:
        """Start the budget. Call it once, when everything is compiled."""
        if self.has_started:
            raise Fault("ctx.start() was called twice")
        self._restore()
        before = self.clock()
        self._rehearse()
        handover = HANDOVER_FACTOR * (self.clock() - before)
        self._channel.send("start")
        message, (train,) = self._channel.expect("started", "keep")
        if message["kind"] == "keep":
            self._channel.send("kept", size=keep_compiled(train))
            os._exit(0)  # there is nothing to train
        self._budget = message.get("training_seconds", self._budget)  # less, after a long start
        self._budget -= min(0.5 * self._budget, handover)
        self._started_at = self.clock()
        self._tokens = numpy.frombuffer(mmap.mmap(train, 0, access=mmap.ACCESS_READ), dtype=numpy.uint16)

    def batches(self, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Endless batches `(inputs, targets)`, int64 of shape (batch_size, sequence_length) on `device`.

        Targets are the inputs moved on by one token; the seed sets the order. From `start()` on the tokens are real:
        the text is cut into windows, which come in random order, each once, before it is cut anew elsewhere.
        """
        window = numpy.arange(self._length + 1)
        while True:
            if self._tokens is None:
                tokens = self._draw.integers(self._vocab_size, size=(batch_size, self._length + 1))
            else:
                tokens = self._tokens[self._take_windows(batch_size)[:, None] + window].astype(numpy.int64)
                self.drawn_tokens += batch_size * self._length
            batch = torch.from_numpy(tokens)
            if self.device.type == "cuda":
                batch = batch.pin_memory()  # else the copy would wait for all that the GPU was given before
            batch = batch.to(self.device, non_blocking=True)
            yield batch[:, :-1], batch[:, 1:]

    def _take_windows(self, count: int) -> numpy.ndarray:
        """Where the next windows of the text begin: int64 (count,)."""
        assert self._tokens is not None
        while len(self._waiting) < count:
            first = self._draw.integers(min(self._length, len(self._tokens) - self._length))
            cut = self._draw.permutation((len(self._tokens) - 1 - first) // self._length)
            self._waiting = numpy.concatenate([self._waiting, first + self._length * cut])
        taken, self._waiting = numpy.split(self._waiting, [count])
        return taken

    def progress(self) -> float:
        """The used share of the budget, 0 to 1, without the time for the hand-over."""
        return min(1.0, self._elapsed() / self._budget)

    def out_of_time(self) -> bool:
        """Whether another step would end too late. Call it before each step: that is how steps are timed."""
        elapsed = self._elapsed()
        self._steps.append(elapsed - self._asked_at)
        self._asked_at = elapsed
        return elapsed + max(self._steps) >= self._budget

    def log(self, step: int, loss: float | torch.Tensor) -> None:
        """Report the loss in nats per token; at every step if you like. Ends the run if it is not finite."""
        value = float(loss)
        if not math.isfinite(value):
            raise Fault(f"the loss became {value} at step {step}")
        if self.has_started and time.monotonic() >= self._next_log:
            self.has_logged = True
            self._next_log = time.monotonic() + LOG_SECONDS
            self._channel.send(
                "progress",
                step=int(step),
                loss=value,
                tokens=self.drawn_tokens,
                device_memory_mib=device_memory_mib(self.device),
            )

    def _elapsed(self) -> float:
        return 0.0 if self._started_at is None else self.clock() - self._started_at

    def _remember_optimizer(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """Called by torch before each step of any optimizer: saves the state from before its first step."""
        if all(known is not optimizer for known, _ in self._optimizers_before):
            self._optimizers_before.append((optimizer, copy.deepcopy(optimizer.state_dict())))

    def _restore(self) -> None:
        self._hook.remove()
        self._model.load_state_dict(self._model_before)
        self._model.zero_grad(set_to_none=True)
        for optimizer, state in self._optimizers_before:
            optimizer.load_state_dict(state)
        self._model_before, self._optimizers_before = {}, []
        seed_everything(self.seed)
        self._draw = numpy.random.default_rng(self.seed)
        gc.collect()
        gc.freeze()  # all that is there stays: the collector need not look at it again in the training


def device_memory_mib(device: str | torch.device) -> int:
    """Peak memory of this process in MiB on a device with its own memory; 0 on a CPU."""
    device = torch.device(device)
    return torch.cuda.max_memory_allocated(device) // (1024 * 1024) if device.type == "cuda" else 0


def cpu_seconds() -> float:
    """CPU time of this process and its ended children. The supervisor also counts children that still run."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and Python."""
    torch.manual_seed(seed)
    numpy.random.seed(seed)
    random.seed(seed)


def open_compiled(archive: int | None) -> None:
    """Let torch keep compiled code in COMPILED_FOLDER, beginning with the files of the archive, if there is one.

    A machine compiles the untouched code once. Each trainer unpacks its own copy, which no other process sees.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(COMPILED_FOLDER, "inductor")
    os.environ["TRITON_CACHE_DIR"] = os.path.join(COMPILED_FOLDER, "triton")
    os.makedirs(COMPILED_FOLDER, exist_ok=True)
    if archive is not None:
        with os.fdopen(archive, "rb") as file, tarfile.open(fileobj=file, mode="r:") as files:
            files.extraction_filter = getattr(tarfile, "data_filter", None)  # from Python 3.11.4 on
            files.extractall(COMPILED_FOLDER)


def keep_compiled(archive: int) -> int:
    """Archive what was compiled so far in a file of fixed size. Returns the archive's size, 0 for lack of room."""
    with os.fdopen(archive, "wb", buffering=0) as file:
        try:
            with tarfile.open(fileobj=file, mode="w:") as files:
                files.add(COMPILED_FOLDER, arcname=".")
        except PermissionError:  # the file cannot grow
            return 0
        return file.tell()
