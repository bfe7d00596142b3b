"""Does a model look at tokens that it should not know yet? A test of its answers alone.

For PAIRS windows, after all windows were scored, the model is shown two more inputs:
 * a *cut*: the inputs from a random position `cut` on are replaced by tokens drawn from the model's own answers, the
   first of them never the true one, so that a model cannot tell by their likeness that they are not the text;
 * a *repeat*: the very same inputs once more.

Compared is the log-probability of the true tokens at the LOOK_BACK positions just before the cut, first answer minus
second, summed, in nats: the *drop*. A model that reads only what came before gives the same answers up to rounding,
for cuts and for repeats. One that peeks at the next token meets a wrong one at the last of these positions: if peeking
gains it g nats per token on average, its cuts drop by at least g on average, for there it gains nothing.

The threshold. Repeats have the rounding noise of cuts, and nothing else, so their standard deviation s measures it.
For an honest model the mean drop of cuts, less that of repeats, both over n = PAIRS, has mean 0 and the standard error
s * sqrt(2 / n). Cuts are rejected beyond TOLERANCE + Z * s * sqrt(2 / n): with Z = 6 one honest run in 1e9 for normal
noise, and by Chebyshev's inequality at most one in 36 for any noise at all, even without TOLERANCE, which covers what
rounding shifts in one direction. TOLERANCE is the gain per token that may go unseen: with 3 bytes per token, 0.01 nats
are 0.005 bits per byte.
A model cannot buy a higher threshold with noise of its own: repeats that scatter by more than MAX_SCATTER, or shift by
more than TOLERANCE, are themselves a reason to reject, because answers must not depend on what was asked before.
"""

from dataclasses import dataclass

import numpy

PAIRS = 48
LOOK_BACK = 16
TOLERANCE = 0.01  # nats
Z = 6.0
MAX_SCATTER = 0.05  # nats


@dataclass
class Variant:
    """`inputs` (length,) made from `window`; before `cut` they are its own. `is_cut` is False for a repeat.

    `before` holds the log-probabilities of the window's true targets (length,) as first answered; `drop` is how much
    less likely, in nats, they were in the second answer, summed over the positions looked at.
    """

    window: int
    cut: int
    is_cut: bool
    inputs: numpy.ndarray
    before: numpy.ndarray
    drop: float = 0.0

    def measure_drop(self, after: numpy.ndarray) -> None:
        """Compare with the second answer's log-probabilities of the same targets."""
        looked_at = slice(max(0, self.cut - LOOK_BACK), self.cut)
        self.drop = float((self.before - after)[looked_at].sum(dtype=numpy.float64))


def make_variants(
    index: int, window: numpy.ndarray, answer: numpy.ndarray, before: numpy.ndarray, random: numpy.random.Generator
) -> list[Variant]:
    """A cut and a repeat of a window (length + 1,), given the log-probabilities (length, vocabulary) of its answer."""
    length = len(window) - 1
    cut = int(random.integers(min(LOOK_BACK, length - 1), length))
    inputs = window[:-1].copy()
    inputs[cut:] = sample_suffix(answer[cut - 1 : length - 1], true_token=int(window[cut]), random=random)
    return [Variant(index, cut, True, inputs, before), Variant(index, cut, False, window[:-1], before)]


def sample_suffix(answers: numpy.ndarray, true_token: int, random: numpy.random.Generator) -> numpy.ndarray:
    """A token from each of `answers`, log-probabilities (n, vocabulary); the first is not `true_token`."""
    noisy = answers + random.gumbel(size=answers.shape)  # the largest of these is a sample: the Gumbel-max trick
    noisy[0, true_token] = -numpy.inf
    return noisy.argmax(axis=-1)


def judge(variants: list[Variant]) -> str | None:
    """A sentence if the answers are not those of a causal model without memory, else None."""
    cuts = numpy.array([variant.drop for variant in variants if variant.is_cut])
    repeats = numpy.array([variant.drop for variant in variants if not variant.is_cut])
    scatter, shift = float(repeats.std()), float(repeats.mean())
    if scatter > MAX_SCATTER or abs(shift) > TOLERANCE:
        return (
            "the model's answers to the same tokens change when it is asked again "
            f"(by {-shift:+.4f} ± {scatter:.4f} nats), so they depend on chance or on what it was asked before"
        )
    threshold = TOLERANCE + Z * scatter * (2 / len(cuts)) ** 0.5
    peeking = float(cuts.mean()) - shift
    if peeking > threshold:
        return (
            "the model looks ahead: with later tokens replaced, it finds the true tokens before them less likely "
            f"(by {peeking:.4f} nats per cut; {threshold:.4f} is allowed)"
        )
    return None
