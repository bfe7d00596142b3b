"""A picture of experiments as lines through parallel axes: their settings, and the metric. Pure."""

from collections.abc import Mapping, Sequence
from math import log
from typing import NamedTuple

from shared.experiments import Setting

WIDTH, HEIGHT = 1000.0, 320.0
"""Of the picture's own coordinates."""

LOG_FROM = 16.0
"""Ratio of the largest to the smallest of positive numbers from which on an axis is logarithmic."""

MOST_NAMES = 12
"""Values without an order that an axis tells apart; further ones share the last place."""


class ParallelRow(NamedTuple):
    """An experiment with its settings and its metric."""

    experiment_id: int
    settings: Mapping[str, Setting]
    metric: float


class ParallelAxis(NamedTuple):
    """An axis at `position`, in percent of the width, with the values at its lower and its upper end."""

    name: str
    position: float
    low: str
    high: str


class ParallelLine(NamedTuple):
    """An experiment's line. It `is_best` where it is among the best tenth."""

    experiment_id: int
    path: str
    is_best: bool


class ParallelPicture(NamedTuple):
    """The axes from left to right, the metric last, and the lines, the best on top."""

    axes: list[ParallelAxis]
    lines: list[ParallelLine]


def draw_parallel(
    rows: Sequence[ParallelRow], names: Sequence[str], most: int, metric: str, sign: float
) -> ParallelPicture | None:
    """The picture of experiments, the best of them first, along the first `most` settings in which they differ; better
    metrics lie higher. A line has a gap where its experiment lacks a setting. None where there is nothing to draw."""
    told = {name: {str(row.settings[name]) for row in rows if name in row.settings} for name in names}
    shown = [name for name, values in told.items() if len(values) > 1][:most]
    if len(rows) < 2 or not shown:
        return None
    columns = [[row.settings.get(name) for row in rows] for name in shown]
    scales = [_scale(column) for column in columns] + [_scale_numbers([-sign * row.metric for row in rows])]
    heights = [scale[0] for scale in scales]
    step = WIDTH / len(shown)
    axes = [
        ParallelAxis(name, round(100 * number / len(shown), 2), *scale[1:])
        for number, (name, scale) in enumerate(zip(shown, scales, strict=False))
    ]
    ends = sorted((row.metric for row in rows), reverse=sign > 0)
    axes.append(ParallelAxis(metric, 100.0, f"{ends[0]:.6g}", f"{ends[-1]:.6g}"))
    best = max(1, len(rows) // 10)
    lines = [
        ParallelLine(row.experiment_id, _draw([height[number] for height in heights], step), number < best)
        for number, row in enumerate(rows)
    ]
    return ParallelPicture(axes, lines[::-1])


def _draw(heights: Sequence[float | None], step: float) -> str:
    """A path through those axes that have a value."""
    parts, is_apart = [], True
    for number, height in enumerate(heights):
        if height is not None:
            parts.append(f"{'M' if is_apart else 'L'}{step * number:.0f} {HEIGHT * (1 - height):.0f}")
        is_apart = height is None
    return "".join(parts)


def _scale(values: Sequence[Setting | None]) -> tuple[list[float | None], str, str]:
    """Each value's height, 0 to 1 or None, and the values at both ends."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == sum(value is not None for value in values):
        return _scale_numbers([None if value is None else float(value) for value in values])
    names = sorted({str(value) for value in values if value is not None})
    places = {name: min(place, MOST_NAMES - 1) for place, name in enumerate(names)}
    most = max(1, max(places.values()))
    heights = [None if value is None else places[str(value)] / most for value in values]
    return heights, names[0][:12], names[-1][:12]


def _scale_numbers(values: Sequence[float | None]) -> tuple[list[float | None], str, str]:
    given = [value for value in values if value is not None]
    low, high = min(given), max(given)
    is_log = low > 0 and high >= LOG_FROM * low
    start, end = (log(low), log(high)) if is_log else (low, high)
    width = (end - start) or 1.0
    heights = [None if value is None else ((log(value) if is_log else value) - start) / width for value in values]
    return heights, f"{low:.6g}", f"{high:.6g}"
