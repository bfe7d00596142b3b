"""Scores a model it never sees: `python -m harness.scorer <descriptor>`, with the validation data, in a sandbox.

It writes token windows into shared memory, the host (which has the edited file, but no targets) answers with logits.
The metric is bits per byte: the negative log-likelihood of the windows' targets, in bits, over the number of bytes of
text that they stand for. The first token of a window is only context, and no two windows share a token, so no window
shows another one's targets.
"""

import io
import math
import mmap
import os

import numpy

from harness.causality import PAIRS, judge, make_variants
from harness.channel import Channel, open_channel

Batch = numpy.ndarray  # int64 (rows, length): inputs


class Rejected(Exception):
    """The model's answers failed a check; the message says which, as a sentence."""


class Host:
    """The model, as far as the scorer can know it."""

    def __init__(self, channel: Channel, begin: dict, tokens_memory: int, logits_memory: int) -> None:
        self._channel = channel
        self.rows: int = begin["rows"]
        length, vocab_size = begin["sequence_length"], begin["vocab_size"]
        self._tokens = numpy.frombuffer(mmap.mmap(tokens_memory, 0), dtype=numpy.int64).reshape(self.rows, length)
        logits = mmap.mmap(logits_memory, 0, access=mmap.ACCESS_READ)
        self._logits = numpy.frombuffer(logits, dtype=numpy.float32).reshape(self.rows, length, vocab_size)

    def log_probabilities(self, inputs: Batch) -> numpy.ndarray:
        """Log-probabilities in nats, float32 (rows, length, vocabulary), of each next token."""
        self._tokens[: len(inputs)] = inputs
        self._channel.send("forward", rows=len(inputs))
        self._channel.expect("logits")
        logits = self._logits[: len(inputs)].copy()  # before any check: the host could still write to it
        if not numpy.isfinite(logits).all():
            raise Rejected("the model returned a logit that is not a finite number")
        logits -= logits.max(axis=-1, keepdims=True)
        logits -= numpy.log(numpy.exp(logits).sum(axis=-1, keepdims=True, dtype=numpy.float64))
        return logits


def main() -> None:
    channel = open_channel()
    begin, (validation, *shared) = channel.expect("begin")
    try:
        with os.fdopen(validation, "rb") as file:
            data = numpy.load(io.BytesIO(file.read()), allow_pickle=False)
        host = Host(channel, begin, *shared)
        windows, byte_lengths = data["windows"], data["byte_lengths"]
        nats = score(host, windows, numpy.random.default_rng())  # seeded by the system: nobody can foresee it
    except Rejected as rejection:
        channel.send("rejected", reason=str(rejection))
        return
    except Exception as error:
        channel.fail(error, [])
        raise
    scored_bytes = int(byte_lengths[windows[:, 1:]].sum())
    channel.send("scored", metric=nats / math.log(2) / scored_bytes, scored_bytes=scored_bytes)


def score(host: Host, windows: numpy.ndarray, random: numpy.random.Generator) -> float:
    """Total negative log-likelihood, in nats, of all targets. Raises Rejected if a check of the answers fails."""
    checked = set(random.permutation(len(windows))[:PAIRS].tolist())
    nats, variants = 0.0, []
    for batch in draw_batches(list(range(len(windows))), host.rows, random):
        answers = host.log_probabilities(windows[batch, :-1])
        true = of_targets(answers, windows[batch, 1:])
        nats -= float(true.sum(dtype=numpy.float64))
        for row, index in enumerate(batch):
            if index in checked:
                variants += make_variants(index, windows[index], answers[row], true[row], random)
    # Every original has been scored by now, so that nothing in a variant can help with it.
    for batch in draw_batches([variant.window for variant in variants], host.rows, random):
        answers = host.log_probabilities(numpy.stack([variants[i].inputs for i in batch]))
        true = of_targets(answers, windows[[variants[i].window for i in batch], 1:])
        for row, i in enumerate(batch):
            variants[i].measure_drop(true[row])
    complaint = judge(variants)
    if complaint:
        raise Rejected(complaint)
    return nats


def of_targets(answers: numpy.ndarray, targets: numpy.ndarray) -> numpy.ndarray:
    """The log-probability of each target: (..., length) from (..., length, vocabulary)."""
    return numpy.take_along_axis(answers, targets[..., None], axis=-1)[..., 0]


def draw_batches(windows: list[int], rows: int, random: numpy.random.Generator) -> list[list[int]]:
    """Places in `windows`, shuffled, in batches of at most `rows`.

    No batch holds a window twice or beside its neighbour in the text, which would show what comes next.
    """
    batches: list[list[int]] = []
    for place in random.permutation(len(windows)).tolist():
        for batch in batches:
            if len(batch) < rows and all(abs(windows[place] - windows[other]) > 1 for other in batch):
                batch.append(place)
                break
        else:
            batches.append([place])
    return batches


if __name__ == "__main__":
    main()
