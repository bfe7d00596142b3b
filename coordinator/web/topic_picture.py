"""The picture of a topic: every effect as an interval, per hardware class, and what they say together.

Positions are in percent of the picture's width; intervals are two sd to each side. All classes share one scale, so
that one can compare them at a glance.
"""

from collections.abc import Sequence
from typing import NamedTuple

from coordinator.findings.pooling import read_number
from shared.experiments import AxisDirection
from shared.formatting import format_effect
from shared.topics import Topic, TopicEffect, TopicPool

SPREAD = 2.0
KEPT_SHARE = 0.9
"""The scale is that of the less extreme part of the effects; a few bad ones must not flatten all others."""


class EffectBar(NamedTuple):
    """A row. `role` is `pool`, or the verdict; `low` and `high` end where the picture does. Pools link to nothing."""

    name: str
    detail: str
    words: str
    role: str
    low: float
    middle: float
    high: float
    experiment_id: int | None


class BarGroup(NamedTuple):
    """Rows of one hardware class, or those of all classes together (the last group)."""

    heading: str
    bars: list[EffectBar]


class TopicPicture(NamedTuple):
    """Groups on one scale; `zero` is where no effect stands, `better` the side of gains."""

    groups: list[BarGroup]
    zero: float
    better: str


class _Scale(NamedTuple):
    """Where the picture begins, and how much it spans, in the metric's unit."""

    start: float
    width: float

    def place(self, value: float) -> float:
        """A position in percent; what lies outside stands at the edge."""
        return round(min(100.0, max(0.0, 100 * (value - self.start) / self.width)), 2)

    def draw(self, name: str, detail: str, role: str, mean: float, sd: float) -> EffectBar:
        low, high = self.place(mean - SPREAD * sd), self.place(mean + SPREAD * sd)
        return EffectBar(name, detail, format_effect(mean, sd), role, low, self.place(mean), high, None)

    def draw_effect(self, one: TopicEffect) -> EffectBar:
        name = f"{_TO[one.direction]} {one.value}".strip()
        drawn = self.draw(name, one.title, one.verdict or "unresolved", one.mean, one.sd)
        return drawn._replace(experiment_id=one.experiment_id)

    def draw_pool(self, one: TopicPool) -> EffectBar:
        differ = f"; their true effects differ by about {one.between_sd:.2g}" if one.between_sd else ""
        far = f"; {one.outliers} so far off that they count for nothing" if one.outliers else ""
        return self.draw(f"all {one.direction}", f"{one.experiments} together{differ}{far}", "pool", one.mean, one.sd)


_TO = {AxisDirection.UP: "up to", AxisDirection.DOWN: "down to", AxisDirection.CHANGE: "to"}


def draw_topic(topic: Topic, sign: float) -> TopicPicture | None:
    """The picture, None where nothing was measured. `sign` is 1 where a lower metric is better, else -1."""
    if not topic.effects:
        return None
    scale = _find_scale(topic.effects)
    groups = []
    for heading in sorted({effect.hardware_class for effect in topic.effects}):
        own = sorted((one for one in topic.effects if one.hardware_class == heading), key=_order)
        pools = [scale.draw_pool(one) for one in topic.pools if one.hardware_class == heading]
        groups.append(BarGroup(heading, [scale.draw_effect(one) for one in own] + pools))
    together = [scale.draw_pool(one) for one in topic.pools if one.hardware_class is None]
    if together and len(groups) > 1:
        groups.append(BarGroup("All hardware classes together", together))
    return TopicPicture(groups, scale.place(0.0), "left" if sign > 0 else "right")


def _find_scale(effects: Sequence[TopicEffect]) -> _Scale:
    """The scale of these effects, zero inside."""
    reach = sorted(max(abs(one.mean - SPREAD * one.sd), abs(one.mean + SPREAD * one.sd)) for one in effects)
    limit = reach[min(len(reach) - 1, int(KEPT_SHARE * len(reach)))]
    lows = [max(-limit, one.mean - SPREAD * one.sd) for one in effects]
    highs = [min(limit, one.mean + SPREAD * one.sd) for one in effects]
    low, high = min(0.0, *lows), max(0.0, *highs)
    margin = 0.04 * (high - low) or 1.0
    return _Scale(low - margin, high - low + 2 * margin)


def _order(effect: TopicEffect) -> tuple[float, int]:
    number = read_number(effect.value)
    return (number if number is not None else float("inf"), effect.experiment_id)
