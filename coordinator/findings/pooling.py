"""Pools effects, and finds values that nobody tried. Pure."""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from math import inf, isclose, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.findings.steps import read_value
from shared.experiments import Standing, Verdict
from shared.topics import TopicEffect, UntestedValue

MIN_POOLED = 2
DOUBTED = (Standing.HELD, Standing.REJECTED)
"""Standings of effects that count for nothing here."""

WIDE_STEP = 1.9
"""Neighbouring values further apart than by this factor leave room for one between them."""

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_CHANGE = re.compile(r"([^\s>]+?)(?:\s*(?:->|=>|\N{RIGHTWARDS ARROW})\s*|\s+to\s+)([^\s,;)]+)")

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
Parent = tuple[Hashable, float]
"""A key of the commit that an effect was counted from, and the sd of its metric, which is part of the effect's."""


class Pooled(NamedTuple):
    """A random-effects mean, its sd, and by how much the true effects differ; `outliers` effects count for nothing."""

    mean: float
    sd: float
    between_sd: float
    outliers: int


class _Errors(NamedTuple):
    """Variances of effects: what is each one's `own`, and what it has in `common` with others of its `family`, the
    effects that were counted from the same parent."""

    own: Numbers
    common: Numbers
    family: NDArray[np.intp]

    def sum_families(self, values: Numbers) -> Numbers:
        """For each effect the sum over its family."""
        return np.bincount(self.family, values)[self.family].astype(np.float64)

    def weigh(self, between: float, kept: Numbers | float = 1.0) -> Numbers:
        """Weights of generalised least squares, by true effects that differ by `between`. Their sum is the mean's
        precision; `kept` scales the precision of what is each effect's own."""
        precisions = kept / (self.own + between**2)
        return precisions / (1 + self.common * self.sum_families(precisions))

    def spread(self, between: float) -> Numbers:
        """Sds of the effects around their mean, from which most of what a family has in common falls out."""
        weights = self.weigh(between)
        weights /= weights.sum()
        of_others = self.common * (self.sum_families(weights) - weights)
        least = self.own + between**2
        return np.sqrt(np.maximum(least + self.common - 2 * of_others + weights @ of_others, least))


def _split(sds: Numbers, parents: Sequence[Parent]) -> _Errors:
    """The errors of effects with these sds; without parents none is shared."""
    if not parents:
        return _Errors(sds**2, np.zeros(len(sds)), np.arange(len(sds)))
    numbers = {key: at for at, key in enumerate(dict.fromkeys(key for key, _ in parents))}
    family = np.array([numbers[key] for key, _ in parents])
    is_alone = np.bincount(family)[family] == 1
    common = np.where(is_alone, 0.0, np.array([sd for _, sd in parents]) ** 2)
    return _Errors(sds**2 - common, common, family)


def pool(effects: Sequence[tuple[float, float]], parents: Sequence[Parent] = ()) -> Pooled:
    """Means and sds of effects, at least two, as one that a minority of them cannot move far.

    A random-effects mean by MM-estimation (Yohai, Annals of Statistics 15, 1987): first centre and spread that half of
    the effects decide, then, with that spread, a mean weighted by precision and by Tukey's biweight. The spread solves
    Paule and Mandel's equation (Journal of Research of the NBS 87, 1982), in which a median stands for the mean of
    squares; the centre is the weighted median, as in Hartwig and others (Research Synthesis Methods 11, 2020).

    Effects of one parent share its error, which no number of them makes smaller (generalised least squares).
    """
    order = sorted(range(len(effects)), key=effects.__getitem__)
    values, sds = np.array([effects[at] for at in order]).T
    errors = _split(sds, [parents[at] for at in order] if parents else ())
    between = _find_between_sd(values, errors)
    spread, mean = errors.spread(between), _find_centre(values, errors.weigh(between))
    for _ in range(STEPS):
        kept = _weigh((values - mean) / spread)
        weights = errors.weigh(between, kept)
        before, mean = mean, float(weights @ values / weights.sum())
        if abs(mean - before) < 1e-9 * between + 1e-9 * sds.min():
            break
    return Pooled(mean, sqrt(1 / weights.sum()), between, int((kept == 0).sum()))


def _find_between_sd(values: Numbers, errors: _Errors) -> float:
    """By how much the true effects differ: as far as makes the median deviation what it is of normal values."""
    count = len(values)
    expected = 1 / MAD / MAD_OF_FEW.get(count, count / (count - 0.8))

    def is_too_small(between: float) -> bool:
        centre = _find_centre(values, errors.weigh(between))
        deviations = np.sort(np.abs(values - centre) / errors.spread(between))
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


def _find_centre(values: Numbers, weights: Numbers) -> float:
    """The weighted median of ascending values: on either side of it is at most half of the weight."""
    below = np.cumsum(weights)
    half = below[-1] / 2
    at = int(np.searchsorted(below, half * (1 - PRECISION)))
    if isclose(below[at], half):
        return float(values[at] + values[at + 1]) / 2
    return float(values[at])


def _weigh(deviations: Numbers) -> Numbers:
    """Tukey's biweight."""
    return np.where(np.abs(deviations) < OUTLYING, (1 - (deviations / OUTLYING) ** 2) ** 2, 0.0)


def read_number(value: str) -> float | None:
    """The number that a value is, or the one number in it; None for words, or for several numbers."""
    if (number := read_value(value)) is not None:
        return number
    found = _NUMBER.findall(value)
    return float(found[0]) if len(found) == 1 else None


def find_old(title: str, value: str) -> str:
    """The value that a title says a change began from, as in `WIDTH 64 -> 128`; empty where it says none."""
    if value not in title:  # most titles do not name it, and to look for changes takes long
        return ""
    found = (old for old, new in _CHANGE.findall(title) if new == value)
    return next((old for old in found if (read_value(old) is None) == (read_value(value) is None)), "")


class Shift(NamedTuple):
    """A change of an axis: from `old`, None where that is not known, to `new`, with its effect on the metric; without
    a parent it shares nothing with others."""

    old: float | None
    new: float
    effect: float
    sd: float
    parent: Parent | None = None


class ValueLevel(NamedTuple):
    """The metric at a value minus that at the reference, whose own level is 0 with no sd."""

    value: float
    mean: float
    sd: float
    steps: int


def estimate_levels(shifts: Sequence[Shift]) -> list[ValueLevel]:
    """The levels that all steps together tell, by value, for the values that steps connect with the reference.

    Generalised least squares on the graph of values, whose edges are steps: as a network meta-analysis does (Lumley,
    Statistics in Medicine 21, 2002); steps from one parent share its error. The reference is the value that most steps
    began from. Where steps contradict each other, sds grow by the root of chi-square over its degrees of freedom.
    """
    return _solve_levels(tuple(shifts))


@lru_cache(maxsize=256)
def _solve_levels(shifts: tuple[Shift, ...]) -> list[ValueLevel]:
    """Levels of steps: those of a topic stay the same until somebody measures along it."""
    begun = Counter(shift.old for shift in shifts)
    if not begun:
        return []
    reference = max(begun, key=lambda value: (begun[value], value is not None))
    neighbours: dict[float | None, set[float | None]] = {}
    for shift in shifts:
        neighbours.setdefault(shift.old, set()).add(shift.new)
        neighbours.setdefault(shift.new, set()).add(shift.old)
    known = {reference: None}
    waiting = [reference]
    while waiting:
        new = [value for value in neighbours[waiting.pop()] if value not in known]
        known |= dict.fromkeys(new)
        waiting += new
    told = [shift for shift in shifts if shift.new in known and shift.old != shift.new]
    free = {value: at for at, value in enumerate(value for value in known if value != reference)}
    if not free:
        return []
    design = np.zeros((len(told), len(free)))
    for row, shift in enumerate(told):
        for value, side in ((shift.new, 1.0), (shift.old, -1.0)):
            if value in free:
                design[row, free[value]] += side
    parents = [shift.parent or (at, 0.0) for at, shift in enumerate(told)]
    errors = _split(np.array([shift.sd for shift in told]), parents)
    shared = (errors.family[:, None] == errors.family) * errors.common
    weights = np.linalg.inv(np.diag(errors.own) + shared)
    effects = np.array([shift.effect for shift in told])
    covariance = np.linalg.inv(design.T @ weights @ design)  # the graph is connected
    means = covariance @ (design.T @ weights @ effects)
    spare, left = len(told) - len(free), effects - design @ means
    misfit = float(left @ weights @ left) / spare if spare else 1.0
    sds = np.sqrt(np.diag(covariance) * max(1.0, misfit))
    steps = Counter(end for shift in told for end in (shift.old, shift.new))
    levels = [ValueLevel(v, float(means[at]), float(sds[at]), steps[v]) for v, at in free.items() if v is not None]
    levels += [ValueLevel(reference, 0.0, 0.0, steps[reference])] if reference is not None else []
    return sorted(levels)


def list_untested(effects: Sequence[TopicEffect], sign: float, failed: Iterable[str] = ()) -> Iterator[UntestedValue]:
    """Values beside or between those that were tried, and classes where a gain was not tried. `sign`: 1 to minimise;
    `failed` are values that gave no effect."""
    levels = {value: inf for text in failed if (value := read_number(text)) is not None}
    shifts = (read_shift(effect, effect.mean, effect.sd) for effect in effects)
    told = estimate_levels([shift for shift in shifts if shift is not None])
    levels |= {level.value: sign * level.mean for level in told}
    yield from list_gaps(levels)
    yield from _elsewhere(effects)


def read_shift(effect: TopicEffect, mean: float, sd: float, parent: Parent | None = None) -> Shift | None:
    """The change of an effect whose value is a number; one that is held or rejected counts for nothing."""
    new = read_number(effect.value)
    if new is None or sd <= 0 or effect.standing in DOUBTED:
        return None
    return Shift(read_number(effect.old_value), new, mean, sd, parent)


def list_gaps(known: Mapping[float, float]) -> Iterator[UntestedValue]:
    """Values beside or between those that were tried, each given with its level: lower is better, and without an effect
    it is infinite."""
    values = sorted(known)
    if len(values) >= MIN_POOLED and min(known.values()) < inf:
        best = min(values, key=known.__getitem__)
        yield from _beyond(values, best)
        yield from _between(values, best)


def _beyond(values: Sequence[float], best: float) -> Iterator[UntestedValue]:
    """The best at the edge: what lies beyond is not known."""
    lowest, highest = values[0], values[-1]
    if best == highest:
        why = f"The best so far, {highest:g}, is the highest that was tried."
        yield from _name(_step_on(values[-2], highest), values, why)
    if best == lowest:
        why = f"The best so far, {lowest:g}, is the lowest that was tried."
        yield from _name(_step_on(values[1], lowest), values, why)


def _step_on(before: float, last: float) -> float:
    """As far again as from one value to the next: by the same factor, of a fraction by that of its distance to 1."""
    if 0.5 <= last < 1 and last > before > 0:
        return 1 - (1 - last) ** 2 / (1 - before)
    return last * last / before if min(before, last) > 0 else last + (last - before)


def _between(values: Sequence[float], best: float) -> Iterator[UntestedValue]:
    """A wide step on either side of the best."""
    for low, high in pairwise(values):
        if best in (low, high) and 0 < low < high / WIDE_STEP:
            why = f"Nothing was tried between {low:g} and {high:g}, beside the best so far."
            yield from _name(sqrt(low * high), values, why)


def _name(value: float, values: Sequence[float], why: str) -> Iterator[UntestedValue]:
    """The value to three digits, whole where all values are, and exact where it is whole by itself; nothing where it is
    one of them, or rounds to zero."""
    rounded = float(f"{value:.3g}")
    if all(one.is_integer() for one in values):
        rounded = float(round(value if isclose(value, round(value)) else rounded))
    if rounded not in values and (rounded or values[0] <= 0):
        yield UntestedValue(value=f"{rounded:.15g}", hardware_class=None, why=why)


def _elsewhere(effects: Sequence[TopicEffect]) -> Iterator[UntestedValue]:
    """Gains that other hardware classes of this topic have not seen."""
    classes = sorted({effect.hardware_class for effect in effects})
    seen = {(effect.value, effect.hardware_class) for effect in effects}
    gains = {effect.value: effect for effect in effects if effect.verdict == Verdict.IMPROVED and effect.value}
    for value, effect in gains.items():
        for name in classes:
            if (value, name) not in seen:
                why = f"It helped on {effect.hardware_class} (experiment {effect.experiment_id})."
                yield UntestedValue(value=value, hardware_class=name, why=why)
