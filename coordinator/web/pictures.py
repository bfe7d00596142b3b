"""Pictures of progress: what the script draws, and the same as SVG for those without it."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import ceil
from typing import Any, NamedTuple

from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.records.bins import OUTCOMES
from coordinator.records.progress import ClassHistory, Range
from coordinator.records.progress_queries import Mark
from shared.experiments import Verdict
from shared.formatting import list_ticks
from shared.runs import RunOutcome

KEPT_SHARE = 0.9
"""Share of the marks that the scale must hold; a few bad runs must not flatten all others."""

WIDTH, HEIGHT = 1000.0, 400.0
"""Of the SVG's own coordinates."""

EDGE = 0.025
"""Distance of marks beyond the scale from its edge, as a share of the height."""

TICKS = 6
ROUNDED = 7
"""Significant digits of a number of the plot."""

Plot = dict[str, Any]
"""Columns of the plot, one value each for a mark: `best` metrics, `leading` ones, numbers of `failed` runs, `runs` and
`experiments` by id, and `kinds`. A mark is a bin of `width` runs, the first of which has the number `first`."""


class Picture(NamedTuple):
    """Paths of an SVG, with ticks as (position in percent, number) of both axes."""

    dots: str
    improved: str
    baseline: str
    failed: str
    leader: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def make_plot(project: Project, history: ClassHistory, part: Range) -> Plot:
    """The plot of a part of a class's history."""
    sign = projects.contract_of(project).objective.sign
    if part.width == 1:
        best = [mark.metric if mark.outcome == RunOutcome.OK and mark.counts else None for mark in part.marks]
        columns: Plot = {
            "failed": [int(mark.outcome != RunOutcome.OK) for mark in part.marks],
            "runs": [mark.run_id for mark in part.marks],
            "experiments": [mark.experiment_id or 0 for mark in part.marks],
            "kinds": "".join(_name_kind(mark) for mark in part.marks),
            "first": part.first,
        }
    else:
        best = [one.best for one in part.bins]
        columns = {
            "failed": [sum(getattr(one, name) for name in OUTCOMES[1:]) for one in part.bins],
            "runs": [],
            "experiments": [],
            "kinds": "",
            "first": part.bins[0].number * part.width + 1 if part.bins else 1,
        }
    columns |= {"best": [_round(value) for value in best], "leading": [_round(value) for value in part.leading]}
    kinds = columns["kinds"]
    roots = [value for index, value in enumerate(best) if kinds[index : index + 1] == "b" and value is not None]
    return columns | {
        "width": part.width,
        "total": history.runs,
        "range": choose_range([value for value in best if value is not None], part.leading, roots, sign),
        "sign": sign,
    }


def pack(plot: Plot) -> Plot:
    """The plot as scripts get it: `leading` as pairs of a number of marks and the metric that led at them."""
    if not plot:
        return plot
    return plot | {"leading": [[len(list(marks)), value] for value, marks in groupby(plot["leading"])]}


def _name_kind(mark: Mark) -> str:
    """`i` an improvement, `b` the baseline, `f` failed, `q` not counted, else `r`."""
    if mark.outcome != RunOutcome.OK:
        return "f"
    if not mark.counts:
        return "q"
    if mark.experiment_id is None:
        return "b"
    return "i" if mark.verdict == Verdict.IMPROVED else "r"


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{ROUNDED}g}")


def choose_range(
    values: Sequence[float], leading: Sequence[float | None], roots: Sequence[float], sign: float
) -> tuple[float, float]:
    """The lowest and the highest value of the y axis.

    It holds the leader's line, the baseline and the better KEPT_SHARE of all values, and not what is far better than
    the leader: that waits for a maintainer, or is one lucky run.
    """
    costs = sorted(sign * value for value in values)
    lead = [sign * value for value in leading if value is not None]
    if not costs and not lead:
        return (0.0, 1.0)
    best = min(lead, default=costs[0] if costs else 0.0)
    kept = costs[max(0, ceil(KEPT_SHARE * len(costs)) - 1)] if costs else best
    worst = max(kept + 0.25 * abs(kept - best), *lead, *(sign * root for root in roots), best)
    within = [cost for cost in costs if best - (worst - best) <= cost <= worst]
    low, high = min([*within, *lead]), max([*within, *lead])
    span = (high - low) or abs(high) * 0.02 or 1.0
    low, high = low - 0.08 * span, high + 0.12 * span
    ends = (low, high) if sign > 0 else (-high, -low)
    return float(f"{ends[0]:.{ROUNDED}g}"), float(f"{ends[1]:.{ROUNDED}g}")


def draw(plot: Plot, *, ticks: int = TICKS) -> Picture | None:
    """The picture of a plot; None without a mark."""
    if not plot["best"]:
        return None
    low, high = map(float, plot["range"])
    last = plot["first"] + len(plot["best"]) * plot["width"] - 1
    start, length = plot["first"] - 0.5, max(1.0, min(last, plot["total"]) - plot["first"] + 1.0)

    def x_of(index: float) -> int:
        return round(float(WIDTH * (plot["first"] + index * plot["width"] - start) / length))

    def y_of(value: float) -> int:
        share = (value - low) / (high - low)
        return round(HEIGHT * (1 - min(1 - EDGE, max(EDGE, share))))

    middle = (plot["width"] - 1) / 2 / plot["width"]
    kinds = plot["kinds"] or "r" * len(plot["best"])
    paths: dict[str, list[str]] = {"r": [], "i": [], "b": []}
    for index, (value, kind) in enumerate(zip(plot["best"], kinds, strict=True)):
        if value is not None and kind in paths:
            paths[kind].append(f"M{x_of(index + middle)} {y_of(value)}z")
    bottom, up = (round(HEIGHT), -1) if plot["sign"] > 0 else (0, 1)
    tall = [14 * min(1.0, count / plot["width"]) for count in plot["failed"]]
    failed = [f"M{x_of(index + middle)} {bottom}v{round(up * size, 1)}" for index, size in enumerate(tall) if size]
    return Picture(
        "".join(paths["r"]), "".join(paths["i"]), "".join(paths["b"]), "".join(failed),
        "".join(_draw_line(plot["leading"], x_of, y_of)),
        [(round(100 * (run - start) / length, 1), text) for run, text in _list_runs(start, length, ticks)],
        [(round(100 * (high - value) / (high - low), 1), text) for value, text in list_ticks(low, high, ticks)],
    )  # fmt: skip


def _draw_line(leading: Sequence[float | None], x_of: Any, y_of: Any) -> Iterator[str]:
    """Steps: what led when a mark's runs had come, up to the next change."""
    before: float | None = None
    for index, value in enumerate(leading):
        if value is None or value == before:
            continue
        if before is None:
            yield f"M{x_of(index)} {y_of(value)}"
        else:
            yield f"H{x_of(index)}V{y_of(value)}"
        before = value
    if before is not None:
        yield f"H{WIDTH}"


def _list_runs(start: float, length: float, ticks: int) -> list[tuple[float, str]]:
    runs = [run for run, _ in list_ticks(start, start + length, ticks) if run >= 1 and run == int(run)]
    return [(run, f"{run:,.0f}") for run in runs]
