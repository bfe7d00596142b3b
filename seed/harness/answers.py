"""A scorer's view of a model's logits: the log-probability of each target.

On a CPU by numpy, which is imported in a tenth of torch's time; on a GPU by torch, because 2 million tokens of 8,192
logits each are 64 GB. Both copy when they are made, and check and compute when they are read: the host, which may be
asked the next question in between, could still write to the memory.
"""

from collections.abc import Callable
from typing import Protocol

import numpy

from harness.channel import Rejected

NOT_FINITE = "the model returned a logit that is not a finite number, or one so small that its probability is zero"


class Answers(Protocol):
    """A model's answers to some rows, from logits of shape (rows, span, vocabulary)."""

    def of_targets(self, targets: numpy.ndarray) -> numpy.ndarray:
        """The log-probability in nats of each target, float32: (rows, span) from (rows, span).

        On a CPU it depends on the place's own logits alone, to the last bit. Raises Rejected if one is not finite.
        """


Reader = Callable[[numpy.ndarray], Answers]


def choose_reader(device: str) -> Reader:
    """The reader of logits for `device`."""
    if device == "cpu":
        return NumpyAnswers
    from harness.answers_torch import TorchAnswers  # noqa: PLC0415 - torch takes seconds to import

    return lambda logits: TorchAnswers(logits, device)


class NumpyAnswers:
    def __init__(self, logits: numpy.ndarray) -> None:
        self._logits = logits.copy()

    def of_targets(self, targets: numpy.ndarray) -> numpy.ndarray:
        if not numpy.isfinite(self._logits).all():
            raise Rejected(NOT_FINITE)
        with numpy.errstate(over="ignore"):  # an infinite difference is found below
            values = self._logits - self._logits.max(axis=-1, keepdims=True)
        totals = numpy.exp(values).astype(numpy.float64).sum(axis=-1)
        chosen = numpy.take_along_axis(values, targets[..., None], axis=-1)[..., 0]
        found = (chosen - numpy.log(totals)).astype(numpy.float32)
        if not numpy.isfinite(found).all():
            raise Rejected(NOT_FINITE)
        return found
