"""What effects say together, and which values nobody tried. Pure."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

from shared.experiments import Verdict
from shared.topics import TopicEffect, UntestedValue

MIN_POOLED = 2
WIDE_STEP = 1.9
"""Neighbouring values further apart than by this factor leave room for one between them."""

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


class Pooled(NamedTuple):
    """A random-effects mean, its sd, and by how much the true effects differ."""

    mean: float
    sd: float
    between_sd: float


def pool(effects: Sequence[tuple[float, float]]) -> Pooled:
    """Means and sds of effects, at least two, as one (DerSimonian and Laird, Controlled Clinical Trials 7, 1986)."""
    weights = [1 / sd**2 for _, sd in effects]
    total = sum(weights)
    fixed = sum(weight * mean for weight, (mean, _) in zip(weights, effects, strict=True)) / total
    spread = sum(weight * (mean - fixed) ** 2 for weight, (mean, _) in zip(weights, effects, strict=True))
    scale = total - sum(weight**2 for weight in weights) / total
    between = max(0.0, (spread - (len(effects) - 1)) / scale)
    weights = [1 / (sd**2 + between) for _, sd in effects]
    mean = sum(weight * mean for weight, (mean, _) in zip(weights, effects, strict=True)) / sum(weights)
    return Pooled(mean, sqrt(1 / sum(weights)), sqrt(between))


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
