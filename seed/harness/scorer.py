"""Scores a model it never sees: `python -m harness.scorer <descriptor>`, with the validation data, in a sandbox.

It writes token windows into shared memory; the host, which has the edited file but no targets, answers with logits. The
metric is bits per byte: the negative log-likelihood of the windows' targets over the bytes of text that they stand for.
The first token of a window is only context. No two windows share a token, so none shows another one's targets.
"""

import io
import math
import os
from collections.abc import Sequence

import numpy

from harness.answers import Answers, Reader, choose_reader
from harness.causality import Plan, Variant, judge
from harness.channel import Channel, Rejected, run
from harness.windows import Windows


class Host:
    """The model, as far as the scorer can know it."""

    def __init__(self, channel: Channel, begin: dict, read: Reader, shared: Sequence[int]) -> None:
        self._channel, self._begin, self._read = channel, begin, read
        self._windows = Windows(begin["facts"], begin["device"], *shared)
        self.rows = self._windows.rows

    def ask(self, inputs: numpy.ndarray, first: numpy.ndarray, span: int) -> Answers:
        """The answers to inputs (rows, length), at `span` positions of each row from `first` (rows,) on."""
        self._windows.write(inputs, first, span)
        self._channel.send("ask", count=len(inputs))
        self._channel.expect("answered")
        return self._read(self._windows.logits(len(inputs), span))

    def renew(self) -> None:
        """Replace the host by a fresh process."""
        self._channel.send("renew")
        _, shared = self._channel.expect("renewed")
        self._windows = Windows(self._begin["facts"], self._begin["device"], *shared)


def main(channel: Channel, begin: dict, validation: int, *shared: int) -> None:
    with os.fdopen(validation, "rb") as file:
        data = numpy.load(io.BytesIO(file.read()), allow_pickle=False)
    random = numpy.random.default_rng()  # seeded by the system: nobody can foresee it
    host = Host(channel, begin, choose_reader(begin["device"], random), shared)
    windows, byte_lengths = data["windows"], data["byte_lengths"]
    nats = score(host, windows, random)
    scored_bytes = int(byte_lengths[windows[:, 1:]].sum())
    channel.send("scored", metric=nats / math.log(2) / scored_bytes, scored_bytes=scored_bytes)


def score(host: Host, windows: numpy.ndarray, random: numpy.random.Generator) -> float:
    """Total negative log-likelihood of all targets, in nats. Raises Rejected if a check of the answers fails."""
    length = windows.shape[1] - 1
    plan = Plan(len(windows), length, random)
    variants: dict[int, Variant] = {}
    nats = 0.0
    batches = draw_batches(len(windows), host.rows, random)
    for batch in batches:
        answers = host.ask(windows[batch, :-1], numpy.zeros(len(batch), dtype=numpy.int64), length)
        true = answers.of_targets(windows[batch, 1:])
        nats -= float(true.sum(dtype=numpy.float64))
        for row, index in enumerate(batch):
            variants[index] = plan.make_variant(index, windows[index], true[row], answers, row)
    host.renew()
    for index in random.permutation(len(batches)):
        check_batch(host, batches[index], windows, variants, plan.span)
    if complaint := judge(list(variants.values())):
        raise Rejected(complaint)
    return nats


def check_batch(host: Host, batch: list[int], windows: numpy.ndarray, variants: dict[int, Variant], span: int) -> None:
    """Ask for the variants of a batch's windows, in the same rows, and measure how much the answers differ."""
    first = numpy.array([variants[index].first for index in batch])
    answers = host.ask(numpy.stack([variants[index].inputs for index in batch]), first, span)
    positions = first[:, None] + numpy.arange(span)
    after = answers.of_targets(windows[:, 1:][numpy.array(batch)[:, None], positions])
    for row, index in enumerate(batch):
        variants[index].measure_drop(after[row])


def draw_batches(count: int, rows: int, random: numpy.random.Generator) -> list[list[int]]:
    """The numbers below `count`, shuffled, in batches of at most `rows`, none with two neighbours in the text."""
    batches: list[list[int]] = []
    for index in random.permutation(count).tolist():
        for batch in batches:
            if len(batch) < rows and all(abs(index - other) > 1 for other in batch):
                batch.append(index)
                break
        else:
            batches.append([index])
    return batches


if __name__ == "__main__":
    run(main)
