"""Pictures of what a metric is at each value of a numeric axis, as SVG: one for each hardware class, on one scale."""

from collections.abc import Iterator, Sequence
from math import log10
from typing import NamedTuple

from coordinator.web.charts import SPREAD, TOGETHER
from coordinator.web.pictures import TICKS
from shared.formatting import format_effect, list_ticks
from shared.topics import Topic, TopicLevel

WIDTH, HEIGHT = 1000.0, 400.0
"""Of the SVG's own coordinates."""

EDGE = 0.06
"""Empty part of the picture at each side, as a share of the values' range."""

LOG_FROM = 8.0
"""Ratio of the largest to the smallest value from which on an axis of positive numbers is logarithmic."""

LEAST_GAP = 9.0
"""Least distance between two labels of values, in percent of the width."""

MIN_VALUES = 2


class DosePicture(NamedTuple):
    """Paths of points, of intervals of two sd and of the line between the points. `zero` is the height of the
    `reference`, the value that the others are compared with, if it is known. Ticks are (position in percent, number);
    `words` say the same as the picture.
    """

    name: str
    points: str
    best: str
    intervals: str
    line: str
    zero: float
    reference: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    is_logarithmic: bool
    words: list[str]


def draw_doses(topic: Topic, sign: float) -> list[DosePicture]:
    """The pictures, that of all classes together last; none where no axis of numbers was tried at several values.

    `sign` is 1 where a lower metric is better, else -1.
    """
    groups: dict[str | None, list[TopicLevel]] = {}
    for level in topic.levels:
        groups.setdefault(level.hardware_class, []).append(level)
    groups = {name: levels for name, levels in groups.items() if len(levels) >= MIN_VALUES}
    every = [level for levels in groups.values() for level in levels]
    return [_draw(name or TOGETHER, levels, every, sign) for name, levels in groups.items()]


def _draw(name: str, levels: Sequence[TopicLevel], every: Sequence[TopicLevel], sign: float) -> DosePicture:
    values = [level.value for level in every]
    is_log = min(values) > 0 and max(values) >= LOG_FROM * min(values)
    ends = [level.mean + side * SPREAD * level.sd for level in every for side in (-1, 1)]
    wide, tall = _stretch([_measure(value, is_log) for value in values]), _stretch([0.0, *ends])

    def x_of(level: TopicLevel) -> float:
        return round(WIDTH * (_measure(level.value, is_log) - wide[0]) / (wide[1] - wide[0]), 1)

    def y_of(value: float) -> float:
        return round(HEIGHT * (tall[1] - value) / (tall[1] - tall[0]), 1)

    best = min(levels, key=lambda level: sign * level.mean)
    dots = {level.value: f"M{x_of(level)} {y_of(level.mean)}z" for level in levels}
    ends_of = {one: (y_of(one.mean - SPREAD * one.sd), y_of(one.mean + SPREAD * one.sd)) for one in levels if one.sd}
    return DosePicture(
        name,
        "".join(path for value, path in dots.items() if value != best.value),
        dots[best.value],
        "".join(f"M{x_of(one)} {low}V{high}" for one, (low, high) in ends_of.items()),
        "M" + "L".join(f"{x_of(level)} {y_of(level.mean)}" for level in levels),
        y_of(0.0),
        next((f"{level.value:g}" for level in levels if not level.sd), ""),
        list(_thin([(round(100 * x_of(level) / WIDTH, 2), f"{level.value:g}") for level in levels])),
        [(round(100 * y_of(value) / HEIGHT, 2), text) for value, text in list_ticks(*tall, TICKS)],
        is_log,
        [_say(level) for level in levels],
    )


def _measure(value: float, is_log: bool) -> float:
    return log10(value) if is_log else value


def _stretch(values: Sequence[float]) -> tuple[float, float]:
    """The ends of a scale that holds the values."""
    low, high = min(values), max(values)
    edge = EDGE * (high - low) or 1.0
    return low - edge, high + edge


def _thin(ticks: Sequence[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    """The ticks that have room for their label."""
    last, long = -2 * LEAST_GAP, 0
    for position, text in ticks:
        if position - last >= max(LEAST_GAP, 0.85 * (long + len(text))):
            yield position, text
            last, long = position, len(text)


def _say(level: TopicLevel) -> str:
    if not level.sd:
        return f"{level.value:g}: the reference"
    return f"{level.value:g}: {format_effect(level.mean, level.sd)}"
