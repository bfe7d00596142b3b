"""A scorer's view of a model's logits: the log-probability of each target, and tokens drawn from them.

On a CPU by numpy, which is imported in a tenth of torch's time; on a GPU by torch, because 2 million tokens of 8,192
logits each are 64 GB. Both copy before they check: the host could still write to the memory.
"""

from collections.abc import Callable
from typing import Protocol

import numpy

from harness.channel import Rejected


class Answers(Protocol):
    """A model's answers to some rows, from logits of shape (rows, span, vocabulary)."""

    def of_targets(self, targets: numpy.ndarray) -> numpy.ndarray:
        """The log-probability in nats of each target: (rows, span) from (rows, span)."""

    def sample(self, row: int, first: int, forbidden: int) -> numpy.ndarray:
        """A token drawn at each position of a row from `first` on; the first of them is not `forbidden`."""


Reader = Callable[[numpy.ndarray], Answers]


def choose_reader(device: str, random: numpy.random.Generator) -> Reader:
    """The reader of logits for `device`. Raises Rejected for logits that are not finite numbers."""
    if device == "cpu":
        return lambda logits: NumpyAnswers(logits, random)
    from harness.answers_torch import TorchAnswers  # noqa: PLC0415 - torch takes seconds to import

    return lambda logits: TorchAnswers(logits, device)


class NumpyAnswers:
    def __init__(self, logits: numpy.ndarray, random: numpy.random.Generator) -> None:
        values = logits.copy()
        if not numpy.isfinite(values).all():
            raise Rejected("the model returned a logit that is not a finite number")
        values -= values.max(axis=-1, keepdims=True)
        values -= numpy.log(numpy.exp(values).sum(axis=-1, keepdims=True, dtype=numpy.float64))
        self.log_probabilities, self._random = values, random

    def of_targets(self, targets: numpy.ndarray) -> numpy.ndarray:
        return numpy.take_along_axis(self.log_probabilities, targets[..., None], axis=-1)[..., 0]

    def sample(self, row: int, first: int, forbidden: int) -> numpy.ndarray:
        values = self.log_probabilities[row, first:]
        noisy = values + self._random.gumbel(size=values.shape)  # the Gumbel-max trick: the largest is a sample
        noisy[0, forbidden] = -numpy.inf
        return noisy.argmax(axis=-1)
