"""Trainer, context and host of the harness, in this process, with a test in the supervisor's place."""

import json
import os
import socket
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from harness import host, trainer
from harness.channel import Channel, Fault, describe, find_frame
from harness.context import HANDOVER_FACTOR, Context
from harness.windows import lock_pages

VOCAB, LENGTH = 40, 8
EDITED = """
import torch
from torch import nn


def build(config):
    return nn.Sequential(nn.Embedding(config.vocab_size, 4), nn.Linear(4, config.vocab_size))


"""


class Supervisor:
    """The other end of the harness's line; answers `start` with the text's tokens and keeps the messages."""

    def __init__(self, tokens: numpy.ndarray) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = Channel(theirs.detach())
        self.heard: list[dict[str, Any]] = []
        self.weights = os.memfd_create("weights")
        self._text = os.memfd_create("text")
        os.write(self._text, tokens.astype(numpy.uint16).tobytes())
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def _answer(self) -> None:
        while packet := self._socket.recv(1 << 17):
            self.heard.append(json.loads(packet))
            if self.heard[-1]["kind"] == "start":
                socket.send_fds(self._socket, [b'{"kind": "started"}'], [self._text])

    def close(self) -> None:
        self.channel._socket.close()
        self._thread.join()
        self._socket.close()
        os.close(self.weights)
        os.close(self._text)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """Its text is the tokens 0 to 19 only; random tokens go up to 39."""
    supervisor = Supervisor(numpy.arange(4000) % 20)
    yield supervisor
    supervisor.close()


@pytest.fixture
def run(supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Train an edited file that ends with the code given; returns its module."""

    def run(code: str, seed: int = 3, **begin: Any) -> Any:
        (tmp_path / "train.py").write_text(EDITED + textwrap.dedent(code))
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "train", raising=False)
        settings = {
            "editable": ["train.py"],
            "device": "cpu",
            "seed": seed,
            "facts": {"vocab_size": VOCAB, "sequence_length": LENGTH},
            "training_seconds": 0.2,
            "handover_seconds": 1.0,
            "handover_bytes": 100_000,
        }
        trainer.train(supervisor.channel, settings | begin, supervisor.weights)
        return sys.modules["train"]

    return run


def test_batches_are_random_before_the_start_and_text_after(run: Callable[..., Any]) -> None:
    edited = run("""
        def train(ctx, model):
            global early, late, targets
            batches = ctx.batches(50)
            early, _ = next(batches)
            ctx.start()
            late, targets = next(batches)
            ctx.log(1, 2.0)
    """)
    assert edited.early.shape == edited.late.shape == (50, LENGTH)
    assert edited.late.dtype == torch.int64
    assert edited.early.max() >= 20 > edited.late.max()
    assert torch.equal(edited.targets, (edited.late + 1) % 20)


def test_each_window_of_the_text_comes_once_before_it_is_cut_anew(supervisor: Supervisor) -> None:
    begin = {"device": "cpu", "seed": 3, "facts": {"vocab_size": 100, "sequence_length": 8}, "training_seconds": 9.0}
    ctx = Context(supervisor.channel, begin, torch.nn.Linear(2, 2), rehearse=lambda: None)
    ctx.start()
    ctx._tokens = numpy.arange(81, dtype=numpy.uint16)  # ten windows of eight tokens and one to predict, or nine
    firsts = [int(row[0]) for _ in range(20) for row in next(ctx.batches(3))[0]]
    cuts = []
    while len(firsts) >= 10:
        places = range(firsts[0] % 8, 80 - 7, 8)
        cut, firsts = firsts[: len(places)], firsts[len(places) :]
        assert sorted(cut) == list(places) and cut != sorted(cut)
        cuts.append(cut)
    assert len({cut[0] % 8 for cut in cuts}) > 2, "cut at other places each time"


def test_the_order_of_data_follows_the_seed(run: Callable[..., Any]) -> None:
    code = """
        def train(ctx, model):
            global seen, weight, drawn
            for _ in range({warm_up}):
                next(ctx.batches(3)); torch.rand(5)
            ctx.start()
            seen, weight, drawn = next(ctx.batches(50))[0], model[0].weight.clone(), torch.rand(3)
            ctx.log(1, 2.0)
    """
    first, again, other = (run(code.format(warm_up=warm_up), seed=seed) for warm_up, seed in ((0, 3), (7, 3), (0, 4)))
    for name in ("seen", "weight", "drawn"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
        assert not torch.equal(getattr(first, name), getattr(other, name)), name


@pytest.mark.parametrize(
    "optimizer", ["AdamW(model.parameters(), lr=0.1)", "SGD(model.parameters(), 0.1, momentum=0.9)"]
)
def test_nothing_that_was_trained_early_survives_the_start(run: Callable[..., Any], optimizer: str) -> None:
    edited = run(f"""
        def train(ctx, model):
            global before, between, after, state, rate, gradient
            before = model[1].weight.detach().clone()
            optimizer = torch.optim.{optimizer}
            for inputs, targets in ctx.batches(4):
                nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()).backward()
                optimizer.step()
                optimizer.param_groups[0]["lr"] = 5.0
                break
            between = model[1].weight.detach().clone()
            ctx.start()
            after, gradient = model[1].weight.detach().clone(), model[1].weight.grad
            state, rate = dict(optimizer.state), optimizer.param_groups[0]["lr"]
            ctx.log(1, 2.0)
    """)
    assert not torch.equal(edited.between, edited.before)
    assert torch.equal(edited.after, edited.before)
    assert (edited.state, edited.rate, edited.gradient) == ({}, 0.1, None)


def test_the_budget_runs_from_the_start(run: Callable[..., Any]) -> None:
    edited = run("""
        def train(ctx, model):
            global early, late
            moment = 100.0
            ctx.clock = lambda: moment
            moment += 0.3
            early = (ctx.progress(), ctx.out_of_time())
            ctx.start()
            assert ctx.progress() == 0 and not ctx.out_of_time()
            moment += 0.21
            late = (ctx.progress(), ctx.out_of_time())
            ctx.log(1, 2.0)
    """)
    assert edited.early == (0.0, False)
    assert edited.late == (1.0, True)


def test_the_hand_over_is_part_of_the_budget(supervisor: Supervisor) -> None:
    """A rehearsal measures the end's duration, which is left over in the budget."""
    facts = {"vocab_size": VOCAB, "sequence_length": LENGTH}
    begin = {"device": "cpu", "seed": 3, "facts": facts, "training_seconds": 100.0}
    moments = iter([10.0, 10.3, *[20.0] * 9])
    ctx = Context(supervisor.channel, begin, torch.nn.Linear(2, 2), rehearse=lambda: None)
    ctx.clock = lambda: next(moments)
    ctx.start()
    assert ctx.budget_seconds == pytest.approx(100 - HANDOVER_FACTOR * 0.3)
    assert not ctx.out_of_time()
    ctx._started_at = 20.0 - ctx._budget
    assert (ctx.progress(), ctx.out_of_time()) == (1.0, True)
    ctx._started_at = 20.0 - 0.8 * ctx._budget
    ctx._asked_at = ctx._elapsed() - 0.3 * ctx._budget  # the last step took so long that another would be late
    assert ctx.progress() < 1 and ctx.out_of_time()


def test_hands_over_what_it_says(
    run: Callable[..., Any], supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.context.LOG_SECONDS", 600.0)
    run("""
        def train(ctx, model):
            ctx.start()
            for step in range(200):
                next(ctx.batches(4))
                ctx.log(step, torch.tensor(1.5))
    """)
    supervisor.channel._socket.shutdown(socket.SHUT_WR)
    supervisor._thread.join()
    kinds = [message["kind"] for message in supervisor.heard]
    assert (kinds[0], kinds[-1]) == ("start", "trained")
    assert kinds.count("progress") == 1  # of 200 steps
    trained = supervisor.heard[-1]
    assert trained["tokens"] == 200 * 4 * LENGTH
    model = torch.nn.Sequential(torch.nn.Embedding(VOCAB, 4), torch.nn.Linear(4, VOCAB))
    host.load_weights(model, os.pread(supervisor.weights, trained["size"], 0))


FAULTS = {
    "no function": ("def fit(ctx, model): pass", "train.py defines no function `train`"),
    "no model": ("def build(config): return 5\ndef train(ctx, model): pass", r"returned a int, not a torch.nn.Module"),
    "never starts": ("def train(ctx, model): pass", r"returned without calling ctx.start\(\)"),
    "never logs": ("def train(ctx, model): ctx.start()", r"without ever calling ctx.log\(step, loss\)"),
    "starts twice": ("def train(ctx, model): ctx.start(); ctx.start()", r"ctx.start\(\) was called twice"),
    "not finite": ("def train(ctx, model): ctx.log(7, float('nan'))", "the loss became nan at step 7"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_says_how_the_contract_is_broken(name: str, run: Callable[..., Any]) -> None:
    code, reason = FAULTS[name]
    with pytest.raises(Fault, match=reason):
        run(code)


def test_refuses_weights_that_are_too_large(run: Callable[..., Any]) -> None:
    with pytest.raises(Fault, match=r"the weights take [\d,]+ bytes; the contract allows 100"):
        run("def train(ctx, model): ctx.start(); ctx.log(1, 1.0)", handover_bytes=100)


def test_weights_that_share_memory_are_handed_over(run: Callable[..., Any], supervisor: Supervisor) -> None:
    edited = run("""
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.embedding, self.head = nn.Embedding(40, 4), nn.Linear(4, 40, bias=False)
                self.head.weight = self.embedding.weight

        def build(config):
            return Tied()

        def train(ctx, model):
            global trained
            ctx.start()
            ctx.log(1, 2.0)
            trained = model
    """)
    supervisor.channel._socket.shutdown(socket.SHUT_WR)
    supervisor._thread.join()
    model = edited.build(None)
    host.load_weights(model, os.pread(supervisor.weights, supervisor.heard[-1]["size"], 0))
    assert torch.equal(model.head.weight, edited.trained.head.weight)


def test_loads_no_weights_of_another_model() -> None:
    content = trainer.save({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)})
    with pytest.raises(Fault, match="the trained weights do not fit"):
        host.load_weights(torch.nn.Linear(4, 2), content)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (Fault("a sentence of its own"), "a sentence of its own"),
        (MemoryError(), "out of memory: MemoryError"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried\nmore"), "out of memory: "),
        (SystemExit(2), "train.py called sys.exit(2)"),
        (ValueError("first line\nsecond line"), "the harness raised ValueError: first line"),
        (
            RuntimeError("backend='inductor' raised:\nOSError: no gcc\n\nadvice"),
            "the harness raised RuntimeError: backend='inductor' raised: OSError: no gcc",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_describes_an_error_in_a_sentence(error: BaseException, sentence: str) -> None:
    described = describe(error, ["train.py"])
    assert described.startswith(sentence)
    assert "\n" not in described


def test_finds_the_deepest_frame_of_the_edited_file(run: Callable[..., Any]) -> None:
    code = """
        def train(ctx, model):
            inner(model)

        def inner(model):
            model(torch.tensor([99]))
    """
    with pytest.raises(IndexError) as caught:
        run(code)
    assert find_frame(caught.value, ["train.py"]).endswith("in inner: model(torch.tensor([99]))")
    assert describe(caught.value, ["train.py"]).startswith("train.py raised IndexError: ")


def test_finds_a_syntax_error(run: Callable[..., Any]) -> None:
    with pytest.raises(SyntaxError) as caught:
        run("def train(ctx, model:\n")
    assert find_frame(caught.value, ["train.py"]).startswith("train.py:")


class FakeCuda:
    """A runtime that refuses to lock pages and, as CUDA's, has the next launch raise that."""

    def __init__(self, refusal: int) -> None:
        self.refusal, self.pending = refusal, 0

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:  # noqa: N802 - CUDA's name
        self.pending = self.refusal
        return self.refusal

    def launch(self, *_: object, **__: object) -> None:
        error, self.pending = self.pending, 0
        if error:
            raise RuntimeError("CUDA error: operation not supported")


@pytest.mark.parametrize("refusal", [0, 801])
def test_memory_that_cannot_be_locked_breaks_no_later_launch(refusal: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under WSL and in Docker Desktop: https://docs.nvidia.com/cuda/wsl-user-guide"""
    cuda = FakeCuda(refusal)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: cuda)
    monkeypatch.setattr(torch, "zeros", cuda.launch)
    lock_pages(numpy.zeros(8, dtype=numpy.float32), "cuda:0")
    cuda.launch()
