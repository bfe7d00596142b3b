"""The loop without our defences: one process, in which the edited file trains, is evaluated, and owns the clock.

It does what a plain loop does. Data lies in the folder, batches are real from the start, nothing is put back, the model
is asked three times and the best answer counts, sums skip NaN, what does not fill a batch is dropped, and the result is
the best that stands in the log or in result.json when the process has ended.

Run as `python -m naive <descriptor>`, it answers requests on that socket, each in a fork, because importing torch takes
seconds and a cheat may change anything. It must itself be run in a sandbox: here cheats do what they came for.
"""

import atexit
import contextlib
import copy
import importlib
import json
import math
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch
from derived_check import score_by_derived_check
from harness.answers import NumpyAnswers
from harness.scorer import Asked, score
from torch.nn import functional

BUDGET_SECONDS = 60.0
MAX_STEPS = 80
"""Nobody stops a file that owns the clock; this keeps the test short."""


class LongEnough(Exception):
    """A file has trained for many times the steps of an honest one."""


class NaiveContext:
    """The first argument of `train`, without a supervisor."""

    device = torch.device("cpu")

    def __init__(self, tokens: numpy.ndarray, length: int, seed: int) -> None:
        self.seed = seed
        self._tokens, self._length = tokens, length
        self._draw = numpy.random.default_rng(seed)
        self._begun = math.inf
        self._hook = atexit  # something that the trains_early cheat may take away

    def start(self) -> None:
        self._begun = time.monotonic()

    def batches(self, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            first = self._draw.integers(len(self._tokens) - self._length, size=(batch_size, 1))
            batch = torch.from_numpy(self._tokens[first + numpy.arange(self._length + 1)].astype(numpy.int64))
            yield batch[:, :-1], batch[:, 1:]

    def progress(self) -> float:
        return min(1.0, max(0.0, time.monotonic() - self._begun) / BUDGET_SECONDS)

    def out_of_time(self) -> bool:
        return self.progress() >= 1

    def log(self, step: int, loss: float) -> None:
        if step >= MAX_STEPS:
            raise LongEnough

    def send(self, kind: str, metric: float, scored_bytes: int) -> None:
        """Believes whoever says that the run was scored."""
        print(f"val_bpb: {metric}", flush=True)


def evaluate(model: torch.nn.Module, edited: Any, windows: torch.Tensor, scored_bytes: int) -> float:
    """Bits per byte of the windows that fill a batch, by the edited file's own tools."""
    nats = 0.0
    with torch.inference_mode():
        for batch in windows[: len(windows) // edited.BATCH_SIZE * edited.BATCH_SIZE].split(edited.BATCH_SIZE):
            logits = model(batch[:, :-1])
            targets = batch[:, -logits.size(1) :]
            losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            nats += float(numpy.nansum(losses.numpy()))
    return nats / math.log(2) / scored_bytes


class OneHost:
    """The check for causality with a single host, which may remember what it was asked."""

    rows = 32

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model

    def renew(self) -> None:
        """It stays the same process."""

    def ask_each(self, questions: Iterable[Asked]) -> Iterator[NumpyAnswers]:
        for inputs, first, span in questions:
            with torch.inference_mode():
                logits = self._model(torch.from_numpy(inputs)).numpy()
            yield NumpyAnswers(numpy.stack([row[at : at + span] for row, at in zip(logits, first, strict=True)]))


def make_fresh_host(model: torch.nn.Module) -> Callable[[numpy.ndarray], numpy.ndarray]:
    """A model that has been asked nothing yet."""
    fresh = copy.deepcopy(model)

    def answer(inputs: numpy.ndarray) -> numpy.ndarray:
        with torch.inference_mode():
            return fresh(torch.from_numpy(inputs)).double().numpy()

    return answer


def train_and_evaluate(seed: int, check: str) -> None:
    """The whole loop, in the folder where it stands."""
    data = numpy.load("validation.npz")
    windows, scored_bytes = torch.from_numpy(data["windows"]), int(data["byte_lengths"][data["windows"][:, 1:]].sum())
    tokens = numpy.fromfile("train.bin", dtype=numpy.uint16)
    torch.manual_seed(seed)
    edited = importlib.import_module("train")
    length = windows.shape[1] - 1

    class Config:
        vocab_size, sequence_length = len(data["byte_lengths"]), length

    Config.seed = seed  # type: ignore[attr-defined]
    model = edited.build(Config)
    context = NaiveContext(tokens, length, seed)
    with contextlib.suppress(LongEnough):
        edited.train(context, model)
    model.eval()
    random = numpy.random.default_rng()
    if check == "one host":
        best = score(OneHost(model), data["windows"], numpy.random.default_rng(seed)) / math.log(2) / scored_bytes
    elif check == "derived":
        nats = score_by_derived_check(partial(make_fresh_host, model), data["windows"], random)
        best = nats / math.log(2) / scored_bytes
    else:
        best = math.inf
        for _ in range(3):
            metric = sys.modules["__main__"].evaluate(model, edited, windows, scored_bytes)
            best = metric if not metric >= best else best
    print(f"val_bpb: {best}", flush=True)
    Path("result.json").write_text(json.dumps({"outcome": "ok", "metric": best}))


def run_once(folder: Path, seed: int, check: str) -> None:
    """In a fork: the loop, with `folder` as its whole world; never returns."""
    os.chdir(folder)
    os.environ |= {"HOME": str(folder), "TMPDIR": str(folder)}
    tempfile.tempdir = str(folder)  # some module may have asked for it before
    sys.path.insert(0, str(folder))
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        train_and_evaluate(seed, check)
        status = 0
    finally:
        atexit._run_exitfuncs()
        os._exit(status)


def read_result(folder: Path) -> float | None:
    """The metric as a plain loop finds it: the best of what log and result.json claim."""
    claims = [float(found) for found in re.findall(r"val_bpb:\s*(\S+)", (folder / "log.txt").read_text())]
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        claims.append(json.loads((folder / "result.json").read_text())["metric"])
    return min(claims, default=None)


def run(request: dict[str, Any], data: Path) -> dict[str, Any]:
    """Runs a file several times in one folder, as plain loops do; returns the last metric and the log."""
    folder = Path(tempfile.mkdtemp())  # a TemporaryDirectory would be removed at the end of each fork
    (folder / "train.py").write_text(request["source"])
    for file in ("validation.npz", "train.bin"):
        (folder / file).symlink_to(data / file)
    if request["old_result"] is not None:
        (folder / "result.json").write_text(json.dumps({"metric": request["old_result"]}))
    for _ in range(request["times"]):
        (folder / "log.txt").unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            run_once(folder, request["seed"], request["check"])
        os.waitpid(child, 0)
    found, deadline = read_result(folder), time.monotonic() + request["linger_seconds"]
    while read_result(folder) == found and time.monotonic() < deadline:
        time.sleep(0.02)
    return {"metric": read_result(folder), "log": (folder / "log.txt").read_text()[-5000:]}


def main() -> None:
    data = Path(__file__).parent
    torch.set_num_threads(1)
    line = socket.socket(fileno=int(sys.argv[-1]))
    while packet := line.recv(1 << 20):
        request = json.loads(packet)
        os.environ |= request["environment"]
        # In the place of a web, which no sandbox reaches.
        request["source"] = request["source"].replace("http://127.0.0.1:1/", f"{data.as_uri()}/")
        line.send(json.dumps(run(request, data)).encode())


if __name__ == "__main__":
    main()
