"""The check that causality.py replaced: its challenge is drawn from the answers under test, its thresholds from noise.

A second host gets each window up to a cut, and from there on tokens drawn from the first host's own answers, the first
of them never the true one; one window in four is repeated instead. Mean and scatter of the drops decide. Kept as the
defence switched off: the model that it judges has seen what comes next, and can write it into what it will be shown.
"""

from collections.abc import Callable

import numpy

LOOK_BACK, REPEATS = 16, 4
TOLERANCE, Z, MAX_SCATTER, MAX_SHIFT, MAX_DROP = 0.002, 6.0, 0.03, 0.01, 1.0  # nats

Model = Callable[[numpy.ndarray], numpy.ndarray]


def score_by_derived_check(
    make_host: Callable[[], Model], windows: numpy.ndarray, random: numpy.random.Generator
) -> float:
    """Nats of all targets of the windows; infinity if the check finds something."""
    inputs, targets = windows[:, :-1], windows[:, 1:]
    count, length = targets.shape
    is_cut = random.permutation(count) >= max(1, count // REPEATS)
    cuts = random.integers(1, length, size=count)
    whole = normalize(make_host()(inputs))
    losses = of_targets(whole, targets)
    challenges = inputs.copy()
    for window in numpy.flatnonzero(is_cut):
        cut = cuts[window]
        noisy = whole[window, cut - 1 :] + random.gumbel(size=whole[window, cut - 1 :].shape)
        noisy[0, inputs[window, cut]] = -numpy.inf
        challenges[window, cut:] = noisy.argmax(axis=-1)[:-1]
    places = numpy.arange(length)
    is_compared = (places < cuts[:, None]) & (places >= cuts[:, None] - LOOK_BACK)
    drops = numpy.where(is_compared, losses - of_targets(normalize(make_host()(challenges)), targets), 0).sum(axis=1)
    repeats, drops = drops[~is_cut], drops[is_cut]
    is_noisy = repeats.std() > MAX_SCATTER or abs(repeats.mean()) > MAX_SHIFT
    threshold = TOLERANCE + Z * repeats.std() / len(drops) ** 0.5
    is_found = is_noisy or drops.mean() > threshold or drops.max() > MAX_DROP
    return numpy.inf if is_found else -float(losses.sum(dtype=numpy.float64))


def normalize(logits: numpy.ndarray) -> numpy.ndarray:
    """Log-probabilities of logits."""
    values = logits - logits.max(axis=-1, keepdims=True)
    return values - numpy.log(numpy.exp(values).sum(axis=-1, keepdims=True))


def of_targets(log_probabilities: numpy.ndarray, targets: numpy.ndarray) -> numpy.ndarray:
    return numpy.take_along_axis(log_probabilities, targets[..., None], axis=-1)[..., 0]
