"""Charges a model for looking ahead: which prefixes are asked, and what the answers say.

One host answers whole windows. When it has ended, a fresh one gets *prefix rows*: a window up to a random `cut`, and
from there on the tokens of an unrelated window. What the second host makes of the last token before a cut is the causal
loss there, because nothing of what follows was shown to it. The scorer adds

    correction = mean(prefix loss - whole-window loss at the same places), or zero if that is less

to the mean loss of the whole windows. A causal model has the same two losses, so its correction is zero without any
variance. Whatever a model gains by looking ahead is taken from it in expectation, wherever and however rarely it looks.

All is drawn before the first question, and no answer influences it. Some windows are *donors*: their tokens follow the
cuts, and they are never cut themselves, because the second host sees how they go on. All other windows are cut equally
often, at random places, the shorter prefix first: no row shows what comes after a later cut. Each window keeps its row
of the batch, so that a dropout which is left on falls the same way again.

In the end one batch is *repeated*: the same rows, whole. On a CPU the answers must agree to the last bit; elsewhere
their rms is bounded. A correction that is large or significant makes the run invalid, and the reason gives no number
that one could tune to. docs/metric.md of the swarm derives bias and variance, and what a cheat wins at best.
"""

from dataclasses import dataclass
from enum import IntEnum
from itertools import zip_longest

import numpy

PREFIX_SHARE = 0.25  # of the scored places; a contract's settings may say otherwise
DONORS = 8  # at most
SPAN = 16  # places compared in each row, the last of them just before the cut
MAX_DIFFERENCE = 0.25  # nats, at one place
MAX_RMS = 0.01  # nats, over all places just before a cut; on a GPU also over all repeated places
MAX_Z = 6.0  # standard errors of the correction: one honest run in 1e9 for normal noise
ROUNDING = 1e-6  # nats; a smaller correction proves nothing, since later tokens may change how float32 sums are rounded

CHANGES = (
    "the model's answers to the same tokens change when it is asked again, "
    "so they depend on chance or on what it was asked before"
)
LOOKS_AHEAD = "the model looks ahead: with later tokens replaced, its answers for the places before them change"


class Kind(IntEnum):
    CUT = 0
    REPEAT = 1
    FILLER = 2  # keeps the rows below it in their places; its answer is not read


@dataclass(frozen=True)
class Question:
    """A batch for the second host; each array has an entry a row. `first` is the first compared place."""

    kinds: numpy.ndarray
    windows: numpy.ndarray
    cuts: numpy.ndarray
    donors: numpy.ndarray
    first: numpy.ndarray

    def inputs(self, windows: numpy.ndarray) -> numpy.ndarray:
        """The rows (rows, length): of windows (count, length + 1), each up to its cut, then its donor."""
        is_prefix = numpy.arange(windows.shape[1] - 1) < self.cuts[:, None]
        return numpy.where(is_prefix, windows[self.windows, :-1], windows[self.donors, :-1])


class Plan:
    """All questions to both hosts about `count` windows of `length` targets. Drawn before the first is asked."""

    def __init__(self, count: int, length: int, rows: int, share: float, random: numpy.random.Generator) -> None:
        assert count >= 2, "a prefix needs another window to end with"
        self._random, self._length = random, length
        self.span = min(SPAN, length)
        self.batches = draw_batches(count, rows, random)
        self._donors = random.permutation(count)[: max(1, min(DONORS, count // 8))]
        cuts = min(length, max(1, round(share * length)))
        slots: list[list[tuple]] = [[] for _ in range(max(map(len, self.batches)))]
        for batch in self.batches:
            for row, window in enumerate(batch):
                if window not in self._donors:
                    slots[row] += self._cut(window, cuts)
        self.questions = [*self._combine([self._shuffle(slot) for slot in slots]), self._repeat()]

    def _cut(self, window: int, cuts: int) -> list[tuple]:
        """Rows with a window's prefixes, the shorter first: kind, window, cut, donor, first place."""
        unrelated = self._donors[abs(self._donors - window) > 1]  # neighbours continue one text
        donors = self._random.choice(unrelated if len(unrelated) else self._donors, size=cuts)
        places = numpy.sort(self._random.permutation(self._length)[:cuts])
        return [
            (Kind.CUT, window, place + 1, donor, max(0, place + 1 - self.span))
            for place, donor in zip(places.tolist(), donors.tolist(), strict=True)
        ]

    def _repeat(self) -> Question:
        """Any batch as the first host got it, which is the last question because it shows how its windows go on."""
        windows = numpy.array(self.batches[self._random.integers(len(self.batches))])
        first = self._random.integers(self._length - self.span + 1, size=len(windows))
        same = numpy.full(len(windows), Kind.REPEAT.value)
        return Question(same, windows, numpy.full(len(windows), self._length), windows, first)

    def _shuffle(self, asked: list[tuple]) -> list[tuple]:
        """The rows in random order, but those of a window in theirs."""
        waiting: dict[int, list[tuple]] = {}
        for row in reversed(asked):
            waiting.setdefault(row[1], []).append(row)
        order = self._random.permutation([row[1] for row in asked])
        return [waiting[window].pop() for window in order.tolist()]

    def _combine(self, slots: list[list[tuple]]) -> list[Question]:
        """Batches with a row of each slot; a filler where a slot has none left."""
        donor = int(self._donors[0])
        filler = (Kind.FILLER, donor, self._length, donor, 0)
        return [Question(*numpy.array(rows, dtype=numpy.int64).T) for rows in zip_longest(*slots, fillvalue=filler)]


class Comparison:
    """How far the second host's answers are from the first's. Differences are in nats: prefix loss minus whole."""

    def __init__(self) -> None:
        self._charged: list[numpy.ndarray] = []
        self._before: list[float] = []
        self._repeated: list[numpy.ndarray] = []

    def add(self, question: Question, differences: numpy.ndarray) -> None:
        """The differences (rows, span) of a question, from the first place of each row on."""
        last = question.cuts - 1 - question.first
        is_cut = question.kinds == Kind.CUT
        is_before = numpy.arange(differences.shape[1]) <= last[:, None]
        self._charged.append(differences[is_cut, last[is_cut]])
        self._before.append(float(numpy.abs(differences[is_cut][is_before[is_cut]]).max(initial=0)))
        self._repeated.append(differences[question.kinds == Kind.REPEAT].ravel())

    @property
    def charged(self) -> numpy.ndarray:
        """The difference just before each cut."""
        return numpy.concatenate(self._charged)

    @property
    def repeated(self) -> numpy.ndarray:
        """The differences of repeats."""
        return numpy.concatenate(self._repeated)

    @property
    def correction(self) -> float:
        """The charge that is added to the mean loss of the whole windows, in nats per token.

        Never below zero: the second host could learn from the many rows it is shown, and answer better than the first.
        """
        return max(0.0, float(self.charged.mean(dtype=numpy.float64)))

    def find_fault(self, is_repeatable: bool) -> str | None:
        """A sentence if the answers are not those of a causal model without memory, else None.

        `is_repeatable` says that the device gives the same answer to the last bit.
        """
        charged = self.charged.astype(numpy.float64)
        if _rms(self.repeated) > (0.0 if is_repeatable else MAX_RMS):
            return CHANGES
        mean, error = abs(charged.mean()), charged.std() / len(charged) ** 0.5
        is_large = max(self._before) > MAX_DIFFERENCE or _rms(charged) > MAX_RMS
        return LOOKS_AHEAD if is_large or mean > max(MAX_Z * error, ROUNDING) else None


def _rms(values: numpy.ndarray) -> float:
    return float(numpy.sqrt(numpy.square(values, dtype=numpy.float64).mean()))


def draw_batches(count: int, rows: int, random: numpy.random.Generator) -> list[list[int]]:
    """The numbers below `count`, shuffled, in as few, equal batches of at most `rows` as hold no two neighbours."""
    batches: list[list[int]] = [[] for _ in range(min(count, max(2, -(-count // rows))))]
    order = [-1]
    for first in range(0, count, len(batches)):
        last = order[-1]  # the batch of the window before
        while (order := random.permutation(len(batches)).tolist())[0] == last and count > 1:
            pass
        for index, batch in zip(range(first, count), order, strict=False):
            batches[batch].append(index)
    return [random.permutation(batch).tolist() for batch in batches]
