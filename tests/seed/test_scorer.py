"""The metric and the checks, against models whose true quality is known."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy
import pytest
from harness.scorer import Rejected, draw_batches, of_targets, score
from hypothesis import given
from hypothesis import strategies as st

VOCAB, LENGTH, COUNT, ROWS = 50, 64, 120, 16
Model = Callable[[numpy.ndarray], numpy.ndarray]

TABLE = numpy.random.default_rng(5).normal(scale=1.5, size=(VOCAB, VOCAB))
TABLE -= numpy.log(numpy.exp(TABLE).sum(axis=1, keepdims=True))


class FakeHost:
    """Answers by a function from inputs (rows, length) to log-probabilities."""

    rows = ROWS

    def __init__(self, model: Model) -> None:
        self.log_probabilities = model


def markov_windows(seed: int = 1) -> numpy.ndarray:
    """Windows of the chain whose transitions are TABLE."""
    random = numpy.random.default_rng(seed)
    windows = numpy.zeros((COUNT, LENGTH + 1), dtype=numpy.int64)
    windows[:, 0] = random.integers(VOCAB, size=COUNT)
    for i in range(LENGTH):
        windows[:, i + 1] = (TABLE[windows[:, i]] + random.gumbel(size=(COUNT, VOCAB))).argmax(axis=-1)
    return windows


def honest(inputs: numpy.ndarray) -> numpy.ndarray:
    return TABLE[inputs]


def normalized(logits: numpy.ndarray) -> numpy.ndarray:
    return logits - numpy.log(numpy.exp(logits).sum(axis=-1, keepdims=True))


def peeking(share: float) -> Model:
    """Reads the next token, and gives it `share` of the probability."""

    def model(inputs: numpy.ndarray) -> numpy.ndarray:
        probabilities = numpy.exp(honest(inputs)) * (1 - share)
        rows, places = numpy.ogrid[: len(inputs), : LENGTH - 1]
        probabilities[rows, places, inputs[:, 1:]] += share
        return numpy.log(probabilities / probabilities.sum(axis=-1, keepdims=True))

    return model


def test_measures_an_honest_model_exactly() -> None:
    windows = markov_windows()
    true = -of_targets(honest(windows[:, :-1]), windows[:, 1:]).sum()
    assert score(FakeHost(honest), windows, numpy.random.default_rng(0)) == pytest.approx(true)
    assert true / (COUNT * LENGTH) < math.log(VOCAB)


def test_accepts_rounding_noise() -> None:
    noise = numpy.random.default_rng(3)

    def rounded(inputs: numpy.ndarray) -> numpy.ndarray:
        return normalized(honest(inputs) + noise.normal(scale=2e-3, size=(*inputs.shape, VOCAB)))

    windows = markov_windows()
    for seed in range(20):
        assert score(FakeHost(rounded), windows, numpy.random.default_rng(seed)) > 0


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 1 - 1e-9])
def test_rejects_a_model_that_peeks(share: float) -> None:
    windows = markov_windows()
    for seed in range(10):
        with pytest.raises(Rejected, match="looks ahead"):
            score(FakeHost(peeking(share)), windows, numpy.random.default_rng(seed))


def test_rejects_a_model_that_takes_the_whole_window_into_account() -> None:
    def model(inputs: numpy.ndarray) -> numpy.ndarray:
        counts = numpy.stack([numpy.bincount(row, minlength=VOCAB) for row in inputs])
        return normalized(honest(inputs) + 0.5 * counts[:, None, :])

    with pytest.raises(Rejected, match="looks ahead"):
        score(FakeHost(model), markov_windows(), numpy.random.default_rng(0))


def test_rejects_a_model_that_remembers_what_it_was_asked() -> None:
    counts = numpy.ones((VOCAB, VOCAB))

    def model(inputs: numpy.ndarray) -> numpy.ndarray:
        numpy.add.at(counts, (inputs[:, :-1], inputs[:, 1:]), 1)
        return numpy.log(counts / counts.sum(axis=1, keepdims=True))[inputs]

    with pytest.raises(Rejected, match="asked again"):
        score(FakeHost(model), markov_windows(), numpy.random.default_rng(0))


def test_rejects_noise_that_could_hide_something() -> None:
    noise = numpy.random.default_rng(4)

    def model(inputs: numpy.ndarray) -> numpy.ndarray:
        return normalized(honest(inputs) + noise.normal(scale=0.1, size=(*inputs.shape, VOCAB)))

    with pytest.raises(Rejected, match="depend on chance"):
        score(FakeHost(model), markov_windows(), numpy.random.default_rng(0))


def test_shows_every_original_before_any_variant() -> None:
    windows, seen = markov_windows(), []
    originals = {row.tobytes() for row in windows[:, :-1]}

    def model(inputs: numpy.ndarray) -> numpy.ndarray:
        seen.extend(row.tobytes() for row in inputs)
        return honest(inputs)

    score(FakeHost(model), windows, numpy.random.default_rng(0))
    assert set(seen[:COUNT]) == originals
    assert sum(content not in originals for content in seen[COUNT:]) == 48


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 9), st.integers(0, 2**32))
def test_puts_no_neighbours_into_a_batch(windows: list[int], rows: int, seed: int) -> None:
    batches = draw_batches(windows, rows, numpy.random.default_rng(seed))
    assert sorted(place for batch in batches for place in batch) == list(range(len(windows)))
    for batch in batches:
        assert 1 <= len(batch) <= rows
        shown = sorted(windows[place] for place in batch)
        assert all(later - earlier > 1 for earlier, later in pairwise(shown))


def test_draws_the_order_anew() -> None:
    one, other = (draw_batches(list(range(100)), 10, numpy.random.default_rng()) for _ in range(2))
    assert one != other
