"""Pools effects, and finds values that nobody tried. Pure."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import isclose, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.experiments import Verdict
from shared.findings import TopicEffect, UntestedValue

MIN_POOLED = 2
WIDE_STEP = 1.9
"""Neighbouring values further apart than by this factor leave room for one between them."""

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


OUTLYING = 4.685
"""Standard deviations from which on an effect counts for nothing: of normal effects, Tukey's biweight then keeps 95 %
of the precision (Beaton and Tukey, Technometrics 16, 1974)."""

MAD = 1.4826
"""Factor from the median of absolute deviations to a normal distribution's sd."""

MAD_OF_FEW = {2: 1.196, 3: 1.495, 4: 1.363, 5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}
"""By what it is too small besides, for so many values; n / (n - 0.8) beyond (Croux and Rousseeuw, COMPSTAT 1992)."""

STEPS = 60
PRECISION = 1e-9
"""Relative precision of the spread, after which the search for it ends."""

Numbers = NDArray[np.float64]


class Pooled(NamedTuple):
    """A random-effects mean, its sd, and by how much the true effects differ; `outliers` effects count for nothing."""

    mean: float
    sd: float
    between_sd: float
    outliers: int


def pool(effects: Sequence[tuple[float, float]]) -> Pooled:
    """Means and sds of effects, at least two, as one that a minority of them cannot move far.

    A random-effects mean by MM-estimation (Yohai, Annals of Statistics 15, 1987): first centre and spread that half of
    the effects decide, then, with that spread, a mean weighted by precision and by Tukey's biweight. The spread solves
    Paule and Mandel's equation (Journal of Research of the NBS 87, 1982), in which a median stands for the mean of
    squares; the centre is the weighted median, as in Hartwig and others (Research Synthesis Methods 11, 2020).
    """
    values, sds = np.array(sorted(effects)).T
    between = _find_between_sd(values, sds)
    mean, variances = _find_centre(values, sds**2 + between**2), sds**2 + between**2
    for _ in range(STEPS):
        weights = _weigh((values - mean) / np.sqrt(variances)) / variances
        before, mean = mean, float(weights @ values / weights.sum())
        if abs(mean - before) < 1e-9 * between + 1e-9 * sds.min():
            break
    return Pooled(mean, sqrt(1 / weights.sum()), between, int((weights == 0).sum()))


def _find_between_sd(values: Numbers, sds: Numbers) -> float:
    """By how much the true effects differ: as far as makes the median deviation what it is of normal values."""
    count = len(values)
    expected = 1 / MAD / MAD_OF_FEW.get(count, count / (count - 0.8))

    def is_too_small(between: float) -> bool:
        variances = sds**2 + between**2
        deviations = np.sort(np.abs(values - _find_centre(values, variances)) / np.sqrt(variances))
        return bool((deviations[(count - 1) // 2] + deviations[count // 2]) / 2 > expected)

    if not is_too_small(0.0):
        return 0.0
    low, high = 0.0, float(values[-1] - values[0]) / expected
    for _ in range(STEPS):
        if high - low <= PRECISION * high:
            break
        middle = (low + high) / 2
        low, high = (middle, high) if is_too_small(middle) else (low, middle)
    return high


def _find_centre(values: Numbers, variances: Numbers) -> float:
    """The weighted median of ascending values: on either side of it is at most half of the precision."""
    below = np.cumsum(1 / variances)
    half = below[-1] / 2
    at = int(np.searchsorted(below, half * (1 - PRECISION)))
    if isclose(below[at], half):
        return float(values[at] + values[at + 1]) / 2
    return float(values[at])


def _weigh(deviations: Numbers) -> Numbers:
    """Tukey's biweight."""
    return np.where(np.abs(deviations) < OUTLYING, (1 - (deviations / OUTLYING) ** 2) ** 2, 0.0)


def read_number(value: str) -> float | None:
    """The number that a value is; None for words, or for several numbers."""
    found = _NUMBER.findall(value)
    return float(found[0]) if len(found) == 1 else None


def list_untested(effects: Sequence[TopicEffect], sign: float) -> Iterator[UntestedValue]:
    """Values beside or between those that were tried, and classes where a gain was not tried. `sign`: 1 to minimise."""
    tried: dict[float, TopicEffect] = {}
    for effect in effects:
        number = read_number(effect.value)
        if number is not None and (number not in tried or sign * effect.mean < sign * tried[number].mean):
            tried[number] = effect
    values = sorted(tried)
    if len(values) >= MIN_POOLED:
        best = min(values, key=lambda value: sign * tried[value].mean)
        yield from _beyond(values, best)
        yield from _between(values, best)
    yield from _elsewhere(effects)


def _beyond(values: Sequence[float], best: float) -> Iterator[UntestedValue]:
    """The best at the edge: what lies beyond is not known."""
    lowest, highest = values[0], values[-1]
    if best == highest:
        beyond = highest + (highest - values[-2]) if values[-2] <= 0 else highest * highest / values[-2]
        why = f"The best so far, {highest:g}, is the highest that was tried."
        yield UntestedValue(value=f"{beyond:.3g}", hardware_class=None, why=why)
    if best == lowest:
        beyond = lowest - (values[1] - lowest) if lowest <= 0 else lowest * lowest / values[1]
        why = f"The best so far, {lowest:g}, is the lowest that was tried."
        yield UntestedValue(value=f"{beyond:.3g}", hardware_class=None, why=why)


def _between(values: Sequence[float], best: float) -> Iterator[UntestedValue]:
    """A wide step on either side of the best."""
    for low, high in pairwise(values):
        if best in (low, high) and 0 < low < high / WIDE_STEP:
            why = f"Nothing was tried between {low:g} and {high:g}, beside the best so far."
            yield UntestedValue(value=f"{sqrt(low * high):.3g}", hardware_class=None, why=why)


def _elsewhere(effects: Sequence[TopicEffect]) -> Iterator[UntestedValue]:
    """Gains that other hardware classes of this topic have not seen."""
    classes = sorted({effect.hardware_class for effect in effects})
    seen = {(effect.value, effect.hardware_class) for effect in effects}
    gains = {effect.value: effect for effect in effects if effect.verdict is Verdict.IMPROVED and effect.value}
    for value, effect in gains.items():
        for name in classes:
            if (value, name) not in seen:
                why = f"It helped on {effect.hardware_class} (experiment {effect.experiment_id})."
                yield UntestedValue(value=value, hardware_class=name, why=why)
