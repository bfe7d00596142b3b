"""Tests by a model's answers alone whether it uses tokens that come later.

One host scores all windows. A second host, a fresh process, then gets each window once more, in one of two forms:
 * a *cut*: the inputs from a random position `cut` on are replaced by tokens drawn from the model's own answers, the
   first of them never the true one, so that a model cannot tell by their likeness that they are not the text;
 * a *repeat*: the very same inputs.

The *drop* is the log-probability of the true tokens at the LOOK_BACK positions just before the cut, first answer minus
second, summed, in nats. A model that reads only what came before gives the same answers up to rounding. For one that
gains g nats per token by peeking at the next, cuts drop by at least g on average: the last of these positions shows it
a wrong token. It cannot remember the true one, which the second host was never shown. No window is shown in both forms,
so the two cannot be compared; all windows are checked, so peeking at a few does not pay. Cuts fall on each position
equally often, the first included, in a random order: with as many cuts as positions, a model that peeks at one position
of every window is met for certain.

The threshold. Repeats have the rounding noise of cuts and nothing else; their standard deviation s measures it. For an
honest model the mean drop of n cuts has mean 0 and standard error s / sqrt(n). Cuts are rejected beyond
TOLERANCE + Z * s / sqrt(n): with Z = 6 one honest run in 1e9 for normal noise, and by Chebyshev's inequality at most
one in 36 for any noise, even without TOLERANCE. That covers noise that only cuts have: later tokens may change how
earlier ones are rounded, as in a mixture of experts. It is also the gain per token that may go unseen: with 4 bytes per
token, 0.002 nats are 0.0007 bits per byte. A model that peeks at few positions is seen by a single drop: no rounding
moves a sum of LOOK_BACK log-probabilities by MAX_DROP.

A model cannot buy a higher threshold with noise of its own: repeats that scatter by more than MAX_SCATTER, or shift by
more than MAX_SHIFT, are rejected, because answers must not depend on earlier questions. Chance as such is no fault: the
host seeds torch before each answer and batches stay the same, so a dropout that is left on repeats itself.
"""

from dataclasses import dataclass

import numpy

from harness.answers import Answers

LOOK_BACK = 16
REPEATS = 4  # one window in 4 is repeated, the others are cut
TOLERANCE = 0.002  # nats
Z = 6.0
MAX_SCATTER = 0.03  # nats
MAX_SHIFT = 0.01  # nats
MAX_DROP = 1.0  # nats


@dataclass
class Variant:
    """The second host's input for a window: `inputs` (length,), which before `cut` are the window's own.

    `before` holds the first host's log-probabilities of the true targets at the compared positions before the cut;
    `drop` is how much less likely, in nats, the second finds them.
    """

    cut: int
    is_cut: bool
    inputs: numpy.ndarray
    before: numpy.ndarray
    drop: float = 0.0

    @property
    def first(self) -> int:
        """The first compared position."""
        return self.cut - len(self.before)

    def measure_drop(self, after: numpy.ndarray) -> None:
        """Compare with the second host's log-probabilities of the targets from `first` on, some past the cut."""
        self.drop = float((self.before - after[: len(self.before)]).sum(dtype=numpy.float64))


class Plan:
    """The windows that are cut, and where. Drawn before the first question."""

    def __init__(self, count: int, length: int, random: numpy.random.Generator) -> None:
        assert count >= 2, "a cut and a repeat need a window each"
        self.span = min(LOOK_BACK, length - 1)
        repeated = random.permutation(count)[: max(1, count // REPEATS)]
        self.is_cut = numpy.isin(numpy.arange(count), repeated, invert=True)
        self.cuts = numpy.empty(count, dtype=int)
        for chosen, last in ((self.is_cut, length - 1), (~self.is_cut, length)):
            self.cuts[chosen] = spread(int(chosen.sum()), last, random)

    def make_variant(
        self, index: int, window: numpy.ndarray, true: numpy.ndarray, answers: Answers, row: int
    ) -> Variant:
        """The variant of a window (length + 1,), a row of `answers`; `true` are its targets' log-probabilities."""
        cut = int(self.cuts[index])
        inputs = window[:-1].copy()
        if self.is_cut[index]:
            inputs[cut:] = answers.sample(row, cut - 1, forbidden=int(window[cut]))[:-1]
        return Variant(cut, bool(self.is_cut[index]), inputs, true[max(0, cut - self.span) : cut])


def spread(count: int, last: int, random: numpy.random.Generator) -> numpy.ndarray:
    """`count` numbers from 1 to `last` in random order, each as often as any other or once more."""
    return numpy.concatenate([random.permutation(last) + 1 for _ in range(count // last + 1)])[:count]


def judge(variants: list[Variant]) -> str | None:
    """A sentence if the answers are not those of a causal model without memory, else None."""
    cuts = numpy.array([variant.drop for variant in variants if variant.is_cut])
    repeats = numpy.array([variant.drop for variant in variants if not variant.is_cut])
    scatter, shift = float(repeats.std()), float(repeats.mean())
    if scatter > MAX_SCATTER or abs(shift) > MAX_SHIFT:
        return (
            "the model's answers to the same tokens change when it is asked again "
            f"(by {-shift:+.4f} ± {scatter:.4f} nats), so they depend on chance or on what it was asked before"
        )
    threshold = TOLERANCE + Z * scatter / len(cuts) ** 0.5
    if cuts.mean() > threshold:
        return (
            "the model looks ahead: with later tokens replaced, it finds the true tokens before them less likely "
            f"(by {cuts.mean():.4f} nats per cut; {threshold:.4f} is allowed)"
        )
    if cuts.max() > MAX_DROP:
        return (
            "the model looks ahead: with later tokens replaced, it finds the true tokens before them less likely in "
            f"{int((cuts > MAX_DROP).sum())} of {len(cuts)} cuts (by {cuts.max():.1f} nats in one of them)"
        )
    return None
