"""The metric and the checks, against models whose true quality is known."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy
import pytest
from harness.answers import NumpyAnswers
from harness.answers_torch import TorchAnswers
from harness.causality import LOOK_BACK, Variant, judge, spread
from harness.channel import Rejected
from harness.scorer import draw_batches, score
from hypothesis import given
from hypothesis import strategies as st

VOCAB, LENGTH, COUNT, ROWS = 50, 64, 120, 16
Model = Callable[[numpy.ndarray], numpy.ndarray]

TABLE = numpy.random.default_rng(5).normal(scale=1.5, size=(VOCAB, VOCAB))
TABLE -= numpy.log(numpy.exp(TABLE).sum(axis=1, keepdims=True))


class FakeHost:
    """Answers by a function from inputs (rows, length) to logits; `make` makes one for each fresh process."""

    rows = ROWS

    def __init__(self, make: Callable[[], Model]) -> None:
        self._make = make
        self._random = numpy.random.default_rng(6)
        self.renew()

    def renew(self) -> None:
        self._model = self._make()

    def ask(self, inputs: numpy.ndarray, first: numpy.ndarray, span: int) -> NumpyAnswers:
        logits = self._model(inputs)
        return NumpyAnswers(
            numpy.stack([row[at : at + span] for row, at in zip(logits, first, strict=True)]), self._random
        )


def measure(model: Model, windows: numpy.ndarray, seed: int = 0) -> float:
    """The score of a model without memory."""
    return score(FakeHost(lambda: model), windows, numpy.random.default_rng(seed))


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


def of_targets(log_probabilities: numpy.ndarray, targets: numpy.ndarray) -> numpy.ndarray:
    return numpy.take_along_axis(log_probabilities, targets[..., None], axis=-1)[..., 0]


def test_measures_an_honest_model_exactly() -> None:
    windows = markov_windows()
    true = -of_targets(honest(windows[:, :-1]), windows[:, 1:]).sum()
    assert measure(honest, windows) == pytest.approx(true)
    assert true / (COUNT * LENGTH) < math.log(VOCAB)


def test_accepts_rounding_noise() -> None:
    noise = numpy.random.default_rng(3)

    def rounded(inputs: numpy.ndarray) -> numpy.ndarray:
        return normalized(honest(inputs) + noise.normal(scale=2e-3, size=(*inputs.shape, VOCAB)))

    windows = markov_windows()
    for seed in range(20):
        assert measure(rounded, windows, seed) > 0


@pytest.mark.parametrize("share", [5e-4, 0.02, 0.3, 0.9, 1 - 1e-9])
def test_rejects_a_model_that_peeks(share: float) -> None:
    windows = markov_windows()
    for seed in range(10):
        with pytest.raises(Rejected, match="looks ahead"):
            measure(peeking(share), windows, seed)


@pytest.mark.parametrize("place", [0, 3, LOOK_BACK - 2, LENGTH - 2])
def test_rejects_a_model_that_peeks_at_one_place(place: int) -> None:
    def model(inputs: numpy.ndarray) -> numpy.ndarray:
        answers = honest(inputs)
        answers[:, place] = peeking(0.9)(inputs)[:, place]
        return answers

    windows = markov_windows()
    for seed in range(10):
        with pytest.raises(Rejected, match="looks ahead"):
            measure(model, windows, seed)


@given(st.integers(0, 300), st.integers(1, 60), st.integers(0, 2**32))
def test_cuts_fall_everywhere_equally_often(count: int, last: int, seed: int) -> None:
    cuts = numpy.bincount(spread(count, last, numpy.random.default_rng(seed)), minlength=last + 1)
    assert (len(cuts), cuts[0], cuts.sum()) == (last + 1, 0, count)
    assert cuts[1:].max() - cuts[1:].min() <= 1


def test_rejects_a_single_drop_that_no_rounding_makes() -> None:
    """One peek in 1,600 windows is worth less on average than rounding may be."""
    noise = numpy.random.default_rng(9).normal(scale=1e-3, size=2000)
    variants = [Variant(20, number % 5 > 0, numpy.zeros(1), numpy.zeros(1), noise[number]) for number in range(2000)]
    assert judge(variants) is None
    variants[7].drop = 1.5
    assert "looks ahead" in str(judge(variants)) and "in 1 of 1600 cuts" in str(judge(variants))


def test_rejects_a_model_that_takes_the_whole_window_into_account() -> None:
    def model(inputs: numpy.ndarray) -> numpy.ndarray:
        counts = numpy.stack([numpy.bincount(row, minlength=VOCAB) for row in inputs])
        return normalized(honest(inputs) + 0.5 * counts[:, None, :])

    with pytest.raises(Rejected, match="looks ahead"):
        measure(model, markov_windows())


def learns_while_asked() -> Model:
    """Counts pairs of tokens in all that it is shown, and answers by its counts."""
    counts = numpy.ones((VOCAB, VOCAB))

    def model(inputs: numpy.ndarray) -> numpy.ndarray:
        answers = numpy.log(counts / counts.sum(axis=1, keepdims=True))[inputs]
        numpy.add.at(counts, (inputs[:, :-1], inputs[:, 1:]), 1)
        return answers

    return model


def test_rejects_a_model_that_learns_from_what_it_is_asked() -> None:
    with pytest.raises(Rejected, match="asked again"):
        score(FakeHost(learns_while_asked), markov_windows(), numpy.random.default_rng(0))


def remembers() -> Model:
    """Peeks after a beginning by which it knows windows again, and then repeats itself."""
    known: dict[bytes, numpy.ndarray] = {}

    def model(inputs: numpy.ndarray) -> numpy.ndarray:
        answers = honest(inputs)
        answers[:, LOOK_BACK:] = peeking(0.9)(inputs)[:, LOOK_BACK:]
        for row, answer in zip(inputs, answers, strict=True):
            before = known.get(row[:LOOK_BACK].tobytes())
            if before is not None:
                answer[:] = before
            known[row[:LOOK_BACK].tobytes()] = answer.copy()
        return answers

    return model


class OneHost(FakeHost):
    """The defence switched off: one process answers everything."""

    def renew(self) -> None:
        if not hasattr(self, "_model"):
            super().renew()


def test_rejects_a_model_that_hides_its_peeking_behind_its_memory() -> None:
    windows = markov_windows()
    with pytest.raises(Rejected, match="looks ahead"):
        score(FakeHost(remembers), windows, numpy.random.default_rng(0))
    hidden = score(OneHost(remembers), windows, numpy.random.default_rng(0))
    assert hidden < 0.7 * measure(honest, windows)


def test_rejects_noise_that_could_hide_something() -> None:
    noise = numpy.random.default_rng(4)

    def model(inputs: numpy.ndarray) -> numpy.ndarray:
        return normalized(honest(inputs) + noise.normal(scale=0.1, size=(*inputs.shape, VOCAB)))

    with pytest.raises(Rejected, match="depend on chance"):
        measure(model, markov_windows())


def test_shows_each_window_once_to_each_host() -> None:
    windows = markov_windows()
    originals = {row.tobytes() for row in windows[:, :-1]}
    shown: list[list[bytes]] = []

    def make() -> Model:
        shown.append([])

        def model(inputs: numpy.ndarray) -> numpy.ndarray:
            shown[-1].extend(row.tobytes() for row in inputs)
            return honest(inputs)

        return model

    score(FakeHost(make), windows, numpy.random.default_rng(0))
    first, second = shown
    assert len(first) == len(second) == COUNT
    assert set(first) == originals
    assert sum(content not in originals for content in second) == COUNT * 3 // 4


def test_reads_logits_by_torch_as_by_numpy() -> None:
    random = numpy.random.default_rng(8)
    logits = random.normal(scale=3, size=(3, 5, VOCAB)).astype(numpy.float32)
    targets = random.integers(VOCAB, size=(3, 5))
    by_numpy, by_torch = NumpyAnswers(logits, random), TorchAnswers(logits, "cpu")
    numpy.testing.assert_allclose(by_torch.of_targets(targets), by_numpy.of_targets(targets), atol=1e-5)
    for answers in (by_numpy, by_torch):
        best = int(logits[1, 2].argmax())
        drawn = [answers.sample(1, 2, forbidden=best) for _ in range(200)]
        assert all(tokens.shape == (3,) and tokens[0] != best for tokens in drawn)
        assert len({int(tokens[1]) for tokens in drawn}) > 5
        counts = numpy.bincount([int(tokens[2]) for tokens in drawn], minlength=VOCAB)
        probabilities = numpy.exp(by_numpy.log_probabilities[1, 4])
        assert numpy.abs(counts / 200 - probabilities).max() < 0.2
    broken = logits.copy()
    broken[2, 0, 7] = numpy.nan
    for reader in (lambda: NumpyAnswers(broken, random), lambda: TorchAnswers(broken, "cpu")):
        with pytest.raises(Rejected, match="not a finite number"):
            reader()


@given(st.integers(0, 60), st.integers(1, 9), st.integers(0, 2**32))
def test_puts_no_neighbours_into_a_batch(count: int, rows: int, seed: int) -> None:
    batches = draw_batches(count, rows, numpy.random.default_rng(seed))
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    for batch in batches:
        assert 1 <= len(batch) <= rows
        assert all(later - earlier > 1 for earlier, later in pairwise(sorted(batch)))


def test_draws_the_order_anew() -> None:
    one, other = (draw_batches(100, 10, numpy.random.default_rng()) for _ in range(2))
    assert one != other
