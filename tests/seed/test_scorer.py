"""The metric and the checks, against models whose true quality is known."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy
import pytest
from harness.answers import NumpyAnswers
from harness.answers_torch import TorchAnswers
from harness.causality import Kind, Plan, draw_batches
from harness.channel import Rejected
from harness.scorer import Asked, Host, compare, score
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.bench_scoring import Size, find_best
from tests.seed.cheats.derived_check import normalize, of_targets, score_by_derived_check

VOCAB, LENGTH, COUNT, ROWS = 50, 64, 120, 16
KNOWN_BY = 16  # tokens by which a model that remembers knows a window again
Model = Callable[[numpy.ndarray], numpy.ndarray]

TABLE = numpy.random.default_rng(5).normal(scale=1.5, size=(VOCAB, VOCAB))
TABLE -= numpy.log(numpy.exp(TABLE).sum(axis=1, keepdims=True))


class FakeHost:
    """Answers by a function from inputs (rows, length) to logits; `make` makes one for each fresh process."""

    rows = ROWS

    def __init__(self, make: Callable[[], Model]) -> None:
        self._make = make
        self.renew()

    def renew(self) -> None:
        self._model = self._make()

    def ask_each(self, questions: Iterable[Asked]) -> Iterator[NumpyAnswers]:
        for inputs, first, span in questions:
            logits = self._model(inputs)
            yield NumpyAnswers(numpy.stack([row[at : at + span] for row, at in zip(logits, first, strict=True)]))


def measure(model: Model, windows: numpy.ndarray, seed: int = 0, is_repeatable: bool = True) -> float:
    """The score of a model without memory."""
    random = numpy.random.default_rng(seed)
    return score(FakeHost(lambda: model), windows, random, is_repeatable=is_repeatable)


def charge(model: Model, windows: numpy.ndarray, seed: int = 0, share: float = 0.25) -> float:
    """Its correction in nats per token, whatever the checks say."""
    return compare(FakeHost(lambda: model), windows, numpy.random.default_rng(seed), share)[1].correction


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


def peeking_at(share: float, inputs: numpy.ndarray, shown: numpy.ndarray) -> numpy.ndarray:
    """Log-probabilities of a model that gives `share` of the probability to the token that is shown after each."""
    probabilities = numpy.exp(honest(inputs)) * (1 - share)
    rows, places = numpy.ogrid[: len(inputs), : LENGTH - 1]
    probabilities[rows, places, shown[:, 1:]] += share
    return numpy.log(probabilities / probabilities.sum(axis=-1, keepdims=True))


def peeking(share: float) -> Model:
    """Reads the next token, and gives it `share` of the probability."""
    return lambda inputs: peeking_at(share, inputs, inputs)


def test_measures_an_honest_model_exactly() -> None:
    windows = markov_windows()
    true = -of_targets(honest(windows[:, :-1]), windows[:, 1:]).sum()
    assert measure(honest, windows) == pytest.approx(true)
    assert charge(honest, windows) == 0
    assert true / (COUNT * LENGTH) < math.log(VOCAB)


def noisy(scale: float) -> Model:
    noise = numpy.random.default_rng(3)
    return lambda inputs: honest(inputs) + noise.normal(scale=scale, size=(*inputs.shape, VOCAB))


def test_accepts_noise_of_a_gpu_below_the_bound() -> None:
    windows = markov_windows()
    true = measure(honest, windows)
    for seed in range(6):
        assert measure(noisy(2e-3), windows, seed, is_repeatable=False) == pytest.approx(true, rel=1e-3)


@pytest.mark.parametrize(("scale", "is_repeatable"), [(1e-5, True), (0.03, False)])
def test_rejects_noise_above_the_bound(scale: float, is_repeatable: bool) -> None:
    """On a CPU, the same tokens get the same answer to the last bit."""
    for seed in range(4):
        with pytest.raises(Rejected, match="change when it is asked again"):
            measure(noisy(scale), markov_windows(), seed, is_repeatable)


def test_names_no_number_in_its_reasons() -> None:
    for model in (peeking(0.3), peeking(5e-4), noisy(0.03)):
        with pytest.raises(Rejected) as caught:
            measure(model, markov_windows())
        assert not any(letter.isdigit() for letter in str(caught.value))


@pytest.mark.parametrize("share", [0.02, 0.9])
def test_charges_in_full_on_average(share: float) -> None:
    """Without any verdict: the corrected loss is that of somebody who is shown the wrong next token."""
    windows = markov_windows()
    whole, _ = compare(FakeHost(lambda: peeking(share)), windows, numpy.random.default_rng(0), 0.01)
    charges = [charge(peeking(share), windows, seed) for seed in range(12)]
    found = whole / windows[:, 1:].size + numpy.mean(charges)
    error = numpy.std(charges) / math.sqrt(len(charges))
    shown = windows[:, :-1].copy()
    probabilities = numpy.zeros((COUNT, LENGTH))
    for other in range(1, 60):  # the next token is another window's
        shown[:, 1:] = numpy.roll(windows[:, 1:-1], other, axis=0)
        at = of_targets(peeking_at(share, windows[:, :-1], shown), windows[:, 1:])
        probabilities += at / 59
    causal = -probabilities.mean()
    assert found == pytest.approx(causal, abs=5 * error + 0.02)
    assert found > measure(honest, windows) / windows[:, 1:].size


def gambling(windows: numpy.ndarray, places: int) -> Model:
    """Answers the next token only at the `places` where it is least likely, in the hope that no cut is there.

    It knows all windows, and so where a row departs from its own: there it behaves.
    """
    inputs, losses = windows[:, :-1], -of_targets(honest(windows[:, :-1]), windows[:, 1:])
    chosen = losses >= numpy.sort(losses, axis=None)[-places]

    def model(rows: numpy.ndarray) -> numpy.ndarray:
        answers = honest(rows).copy()
        for answer, row in zip(answers, rows, strict=True):
            same = (inputs == row).cumprod(axis=1).sum(axis=1)
            window = int(same.argmax())
            at = numpy.flatnonzero(chosen[window, : same[window] - (same[window] < LENGTH)])
            answer[at] = -30.0
            answer[at, windows[window, at + 1]] = 0.0
        return answers

    return model


@pytest.mark.parametrize("places", [10, 34, 100])
def test_a_gamble_wins_no_more_than_the_bound_on_average(places: int) -> None:
    """A run that is found out counts as no loss."""
    share, windows = 2 / LENGTH, markov_windows()
    true = measure(honest, windows)
    wins = []
    for seed in range(30):
        try:
            host = FakeHost(lambda: gambling(windows, places))
            wins.append(true - score(host, windows, numpy.random.default_rng(seed), share))
        except Rejected:
            wins.append(0.0)
    bound, _, _ = find_best(Size(COUNT, LENGTH, VOCAB, 1, share, ROWS))
    assert numpy.mean(wins) / windows[:, 1:].size < bound
    assert max(wins) > 0 or places == 100  # it is a gamble: some of few places are missed


def test_charges_a_gain_below_any_tolerance() -> None:
    """A gain that a fixed tolerance let pass is taken back."""
    windows = markov_windows()

    def model(inputs: numpy.ndarray) -> numpy.ndarray:
        answers = honest(inputs).copy()
        rows, places = numpy.ogrid[: len(inputs), : LENGTH - 1]
        answers[rows, places, inputs[:, 1:]] += 0.0019
        return answers

    nats, comparison = compare(FakeHost(lambda: model), windows, numpy.random.default_rng(0), 0.25)
    gained = measure(honest, windows) - nats
    assert score_by_derived_check(lambda: model, windows, numpy.random.default_rng(0)) == pytest.approx(nats)
    assert gained > 0.001 * windows[:, 1:].size
    assert nats + comparison.correction * windows[:, 1:].size > measure(honest, windows) - 0.05 * gained
    with pytest.raises(Rejected, match="looks ahead"):
        measure(model, windows)


@pytest.mark.parametrize("share", [5e-4, 0.02, 0.3, 0.9, 1 - 1e-9])
def test_rejects_a_model_that_peeks(share: float) -> None:
    windows = markov_windows()
    for seed in range(4):
        with pytest.raises(Rejected, match="looks ahead"):
            measure(peeking(share), windows, seed)


@pytest.mark.parametrize("place", [0, 3, 14, LENGTH - 2])
def test_rejects_a_model_that_peeks_at_one_place(place: int) -> None:
    def model(inputs: numpy.ndarray) -> numpy.ndarray:
        answers = honest(inputs)
        answers[:, place] = peeking(0.9)(inputs)[:, place]
        return answers

    windows = markov_windows()
    for seed in range(4):
        with pytest.raises(Rejected, match="looks ahead"):
            measure(model, windows, seed)


@given(st.integers(2, 60), st.integers(1, 40), st.integers(1, 9), st.floats(0.001, 1), st.integers(0, 2**32))
def test_asks_every_place_equally_often_in_order(count: int, length: int, rows: int, share: float, seed: int) -> None:
    """A window's shorter prefix comes first, it keeps its row, and donors are never cut."""
    plan = Plan(count, length, rows, share, numpy.random.default_rng(seed))
    row_of = {window: row for batch in plan.batches for row, window in enumerate(batch)}
    assert sorted(row_of) == list(range(count))
    cuts: dict[int, list[int]] = {window: [] for window in row_of}
    donors: set[int] = set()
    for question in plan.questions:
        assert len(question.kinds) <= rows
        for row, kind in enumerate(question.kinds):
            window, cut, donor = (int(found[row]) for found in (question.windows, question.cuts, question.donors))
            if kind != Kind.REPEAT:
                donors.add(donor)
            if kind == Kind.CUT:
                assert row_of[window] == row
                cuts[window].append(cut)
                assert question.first[row] == max(0, cut - plan.span)
    numbers = {len(found) for window, found in cuts.items() if window not in donors}
    assert len(numbers - {0}) == 1
    for window, found in cuts.items():
        assert found == sorted(set(found)) and all(1 <= cut <= length for cut in found)
        assert not (found and window in donors)


def test_no_answer_influences_a_question() -> None:
    """Two models whose answers have nothing in common are asked the same."""

    def ask(model: Model) -> list[bytes]:
        asked: list[bytes] = []

        def remember(inputs: numpy.ndarray) -> numpy.ndarray:
            asked.append(inputs.tobytes())
            return model(inputs)

        compare(FakeHost(lambda: remember), markov_windows(), numpy.random.default_rng(4), 0.25)
        return asked

    assert ask(honest) == ask(peeking(0.9)) == ask(noisy(1.0))


def test_shows_no_host_what_comes_after_a_cut_before_it_is_answered() -> None:
    """Also to a host that remembers all that it was ever shown."""
    random = numpy.random.default_rng(2)
    windows = numpy.arange(COUNT * (LENGTH + 1)).reshape(COUNT, LENGTH + 1)  # each token comes once
    for _ in range(5):
        seen: set[int] = set()
        for question in Plan(COUNT, LENGTH, ROWS, 0.25, random).questions:
            inputs = question.inputs(windows)
            seen.update(inputs.ravel().tolist())
            is_cut = question.kinds == Kind.CUT
            hidden = windows[question.windows[is_cut], question.cuts[is_cut]]
            assert not seen & set(hidden.tolist())


def test_rejects_a_model_that_takes_the_whole_window_into_account() -> None:
    def model(inputs: numpy.ndarray) -> numpy.ndarray:
        counts = numpy.stack([numpy.bincount(row, minlength=VOCAB) for row in inputs])
        return normalize(honest(inputs) + 0.5 * counts[:, None, :])

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


def test_any_batch_may_be_asked_again() -> None:
    """Also one that is not full: else a model could learn from the others for it alone."""
    plans = [Plan(20, LENGTH, 8, 0.25, numpy.random.default_rng(seed)) for seed in range(40)]
    assert all(plan.questions[-1].windows.tolist() in plan.batches for plan in plans)
    assert min(len(plan.questions[-1].windows) for plan in plans) < 8


def remembers() -> Model:
    """Peeks after a beginning by which it knows windows again, and then repeats itself."""
    known: dict[bytes, numpy.ndarray] = {}

    def model(inputs: numpy.ndarray) -> numpy.ndarray:
        answers = honest(inputs)
        answers[:, KNOWN_BY:] = peeking(0.9)(inputs)[:, KNOWN_BY:]
        for row, answer in zip(inputs, answers, strict=True):
            before = known.get(row[:KNOWN_BY].tobytes())
            if before is not None:
                answer[:] = before
            known[row[:KNOWN_BY].tobytes()] = answer.copy()
        return answers

    return model


def learns_from_prefixes(windows: numpy.ndarray) -> Callable[[], Model]:
    """Makes models of which the second answers rows that were put together a little better, as if it had learnt."""
    whole, made, noise = {row.tobytes() for row in windows[:, :-1]}, [0], numpy.random.default_rng(3)

    def make() -> Model:
        made[0] += 1
        is_second = made[0] == 2

        def model(inputs: numpy.ndarray) -> numpy.ndarray:
            answers = honest(inputs).copy()
            for answer, row in zip(answers, inputs, strict=True):
                if is_second and row.tobytes() not in whole:
                    window = windows[(windows[:, :-1] == row).cumprod(axis=1).sum(axis=1).argmax()]
                    gains = 0.0013 + noise.normal(scale=0.009, size=LENGTH)
                    answer[numpy.arange(LENGTH), window[1:]] += gains
            return answers

        return model

    return make


def test_a_second_host_that_answers_better_earns_nothing() -> None:
    """Its gain is within what the checks tolerate: up to six standard errors."""
    windows = markov_windows()
    host = FakeHost(learns_from_prefixes(windows))
    nats, comparison = compare(host, windows, numpy.random.default_rng(0), 0.25)
    assert comparison.find_fault(is_repeatable=True) is None
    assert comparison.charged.mean() < -0.0005
    assert comparison.correction == 0
    assert nats == pytest.approx(measure(honest, windows))


class OneHost(FakeHost):
    """The defence switched off: one process answers everything."""

    def renew(self) -> None:
        if not hasattr(self, "_model"):
            super().renew()


def test_rejects_a_model_that_hides_its_peeking_behind_its_memory() -> None:
    windows = markov_windows()
    with pytest.raises(Rejected, match="the model"):
        score(FakeHost(remembers), windows, numpy.random.default_rng(0))
    hidden = score(OneHost(remembers), windows, numpy.random.default_rng(0))
    assert hidden < 0.7 * measure(honest, windows)


class Wire:
    """Channel and memory of a host that changes each answer when it sees the next question."""

    rows = 2

    def __init__(self) -> None:
        self.events: list[str] = []
        self.memory = numpy.zeros((2, 3, VOCAB), dtype=numpy.float32)

    def write(self, inputs: numpy.ndarray, first: numpy.ndarray, span: int) -> None:
        self.events.append(f"ask {int(inputs[0, 0])}")
        self.memory[:] = -1e9

    def send(self, kind: str, count: int) -> None:
        assert (kind, count) == ("ask", 2)

    def expect(self, *kinds: str) -> None:
        self.memory[:] = 0

    def logits(self, rows: int, span: int) -> numpy.ndarray:
        return self.memory[:rows, :span]


def test_the_next_question_is_asked_once_the_answer_is_copied_and_before_it_is_read() -> None:
    wire: Any = Wire()
    host = Host.__new__(Host)
    host._channel, host._windows, host._read = wire, wire, NumpyAnswers
    first, targets = numpy.zeros(2, dtype=numpy.int64), numpy.zeros((2, 3), dtype=numpy.int64)
    for number, answers in enumerate(host.ask_each((numpy.full((2, 4), n), first, 3) for n in range(3))):
        wire.events.append(f"read {number}")
        numpy.testing.assert_allclose(answers.of_targets(targets), -math.log(VOCAB), rtol=1e-6)
    assert wire.events == ["ask 0", "ask 1", "read 0", "ask 2", "read 1", "read 2"]


def test_reads_logits_by_torch_as_by_numpy() -> None:
    random = numpy.random.default_rng(8)
    logits = random.normal(scale=3, size=(3, 5, VOCAB)).astype(numpy.float32)
    targets = random.integers(VOCAB, size=(3, 5))
    by_numpy = NumpyAnswers(logits).of_targets(targets)
    numpy.testing.assert_allclose(TorchAnswers(logits, "cpu").of_targets(targets), by_numpy, atol=1e-5)
    for row in range(3):  # a place's loss is the same to the last bit, whatever it is asked with
        alone = NumpyAnswers(logits[row : row + 1, 2:4]).of_targets(targets[row : row + 1, 2:4])
        assert (alone == by_numpy[row, 2:4]).all()


PLACES = numpy.arange(1024)
HOSTILE = {
    "one large, the others too small to count": numpy.where(PLACES == 0, 0.0, -17.0),
    "steps of the smallest number": PLACES * 1e-45,
    "zeros of both signs": numpy.where(PLACES % 2, -0.0, 0.0),
    "differences that rounding hides": 1e30 + PLACES * 1e22,
    "exponentials that are rounded down": -numpy.log1p(PLACES * 2.0**-24),
    "almost too large": numpy.where(PLACES == 0, 3.4e38, 3.3999999e38),
}


@pytest.mark.parametrize("logits", HOSTILE.values(), ids=HOSTILE)
def test_no_logits_hold_more_probability_than_one(logits: numpy.ndarray) -> None:
    """All targets at one place together: what rounding adds is less than 0.0001 nats."""
    given = numpy.broadcast_to(logits.astype(numpy.float32), (1, len(PLACES), len(PLACES)))
    for reader in (NumpyAnswers, lambda found: TorchAnswers(found.copy(), "cpu")):
        with suppress(Rejected):
            chances = numpy.exp(reader(given).of_targets(PLACES[None]).astype(numpy.float64))
            assert chances.sum() < 1.0001


@pytest.mark.parametrize("bad", [numpy.nan, numpy.inf, -numpy.inf, -3e38])
def test_rejects_what_is_no_finite_number(bad: float) -> None:
    """Nor may a target's probability be zero, by a logit that is so far below the largest."""
    logits = numpy.zeros((2, 3, VOCAB), dtype=numpy.float32)
    logits[..., 1], logits[1, 0, 7] = 3e38, bad
    targets = numpy.full((2, 3), 7)
    for reader in (NumpyAnswers, lambda found: TorchAnswers(found, "cpu")):
        with pytest.raises(Rejected, match="not a finite number"):
            reader(logits).of_targets(targets)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 2**32))
def test_puts_no_neighbours_into_a_batch(count: int, rows: int, seed: int) -> None:
    batches = draw_batches(count, rows, numpy.random.default_rng(seed))
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    assert len(batches) == min(count, max(2, math.ceil(count / rows)))  # one batch would hold neighbours
    for batch in batches:
        assert count // len(batches) <= len(batch) <= rows
        assert all(later - earlier > 1 for earlier, later in pairwise(sorted(batch)))


def test_draws_the_order_anew() -> None:
    one, other = (draw_batches(100, 10, numpy.random.default_rng()) for _ in range(2))
    assert one != other
