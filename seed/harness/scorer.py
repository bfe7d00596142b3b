"""Scores a model it never sees: `python -m harness.scorer <descriptor>`, with the validation data, in a sandbox.

It writes token windows into shared memory; the host, which has the edited file but no targets, answers with logits. The
metric is bits per byte: the causal loss of the windows' targets (see causality.py) over the bytes of text that windows
of the pool stand for on average. The first token of a window is only context. No two windows share a token, so none
shows another one's targets.

Which windows are scored is drawn anew in each run (draw.py), from what the worker says: the lease's seed, or for the
sealed windows, which ordinary runs never score, a key that came with the lease.
"""

import glob
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy

from harness.answers import Answers, Reader, choose_reader
from harness.causality import PREFIX_SHARE, Comparison, Plan
from harness.channel import Channel, Rejected, run
from harness.draw import choose_count, draw_windows
from harness.windows import Windows

Asked = tuple[numpy.ndarray, numpy.ndarray, int]
"""A question: inputs (rows, length), and how many positions of each row are wanted, from `first` (rows,) on."""


class Host:
    """The model, as far as the scorer can know it."""

    def __init__(self, channel: Channel, begin: dict, read: Reader, shared: Sequence[int]) -> None:
        self._channel, self._begin, self._read = channel, begin, read
        self._windows = Windows(begin["facts"], begin["device"], *shared)
        self.rows = self._windows.rows

    def ask_each(self, questions: Iterable[Asked]) -> Iterator[Answers]:
        """The answers to each question. The host works on the next one while the caller reads an answer.

        It sees the next question only when its answer was copied, which it could else still change by what that shows.
        """
        rows, span = 0, 0
        for inputs, first, wanted in questions:
            answers = self._take(rows, span) if rows else None
            self._windows.write(inputs, first, wanted)
            self._channel.send("ask", count=len(inputs))
            rows, span = len(inputs), wanted
            if answers is not None:
                yield answers
        if rows:
            yield self._take(rows, span)

    def _take(self, rows: int, span: int) -> Answers:
        """A copy of the answer to the last question."""
        self._channel.expect("answered")
        return self._read(self._windows.logits(rows, span))

    def renew(self) -> None:
        """Replace the host by a fresh process."""
        self._channel.send("renew")
        _, shared = self._channel.expect("renewed")
        self._windows = Windows(self._begin["facts"], self._begin["device"], *shared)


def main(channel: Channel, begin: dict, validation: int, *shared: int) -> None:
    with os.fdopen(validation, "rb") as file:
        data = numpy.load(io.BytesIO(file.read()), allow_pickle=False)
    random = numpy.random.default_rng()  # seeded by the system: nobody can foresee it
    host = Host(channel, begin, choose_reader(begin["device"]), shared)
    windows, mean_bytes = choose_windows(data, begin["draw"], begin["settings"]["scored_bytes"], begin["sealed"])
    share = begin["settings"].get("prefix_share", PREFIX_SHARE)
    nats = score(host, windows, random, share, is_repeatable=begin["device"] == "cpu")
    scored_bytes = int(data["byte_lengths"][windows[:, 1:]].sum())
    # By the pool's mean, so that the mean over all draws is the pool's own to the last digit.
    channel.send("scored", metric=nats / math.log(2) / (len(windows) * mean_bytes), scored_bytes=scored_bytes)


def choose_windows(
    data: Mapping[str, numpy.ndarray], draw: str, scored_bytes: int, sealed: bool
) -> tuple[numpy.ndarray, float]:
    """The windows of a run, int64 (count, length + 1) in the text's order, and the mean bytes of the whole pool's."""
    name = "sealed_" if sealed else ""
    pool, features = data[f"{name}windows"], data[f"{name}features"]
    byte_counts = data["byte_lengths"][pool[:, 1:]].sum(axis=1)
    random = numpy.random.default_rng(int(draw, 16))
    chosen = draw_windows(features, choose_count(byte_counts, scored_bytes), random)
    return pool[chosen].astype(numpy.int64), float(byte_counts.mean())


def score(
    host: Host,
    windows: numpy.ndarray,
    random: numpy.random.Generator,
    share: float = PREFIX_SHARE,
    is_repeatable: bool = True,
) -> float:
    """The causal loss of all targets of the windows (count, length + 1), in nats.

    `share` as in `compare`; `is_repeatable` says that the device gives the same answer to the last bit. Raises Rejected
    if a check of the answers fails.
    """
    nats, comparison = compare(host, windows, random, share)
    if fault := comparison.find_fault(is_repeatable):
        raise Rejected(fault)
    return nats + windows[:, 1:].size * comparison.correction


def compare(
    host: Host, windows: numpy.ndarray, random: numpy.random.Generator, share: float
) -> tuple[float, Comparison]:
    """The loss of all targets in whole windows, in nats, and how far a fresh host differs that is shown prefixes.

    It is asked about a `share` of the targets.
    """
    inputs, targets = windows[:, :-1], windows[:, 1:]
    plan = Plan(*targets.shape, host.rows, share, random)
    whole = numpy.empty(targets.shape, dtype=numpy.float32)
    asked: Iterator[Asked] = (
        (inputs[batch], numpy.zeros(len(batch), dtype=numpy.int64), targets.shape[1]) for batch in plan.batches
    )
    for batch, answers in zip(plan.batches, host.ask_each(asked), strict=True):
        whole[batch] = answers.of_targets(targets[batch])
    host.renew()
    comparison = Comparison()
    asked = ((question.inputs(windows), question.first, plan.span) for question in plan.questions)
    for question, answers in zip(plan.questions, host.ask_each(asked), strict=True):
        rows, places = question.windows[:, None], question.first[:, None] + numpy.arange(plan.span)
        comparison.add(question, whole[rows, places] - answers.of_targets(targets[rows, places]))
    return -float(whole.sum(dtype=numpy.float64)), comparison


if __name__ == "__main__":
    if glob.glob("/dev/nvidia[0-9]*") or os.path.exists("/dev/dxg"):
        import harness.answers_torch  # noqa: F401 - while the training still goes on, not when the answers wait
    run(main)
