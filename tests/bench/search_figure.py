"""The figure of bench-search as SVG: how speed grows with the fleet, and how far swarms are over time.

Colours are those of Okabe and Ito, told apart by colour-blind people. Text
takes the reader's own colour scheme.
"""

from collections.abc import Callable, Iterator, Sequence
from math import isnan, log10
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from tests.bench.landscape import START
from tests.bench.search_report import Estimate, Results
from tests.bench.search_trial import HORIZONS, Trial
from tests.bench.worlds import MIXED

WIDTH, HEIGHT = 960, 400
SIZES = (1, 16, 64, 256)
GOALS = {16: 14.0, 64: 32.0, 256: 55.0}
SWARM, IDEAL = "#0072B2", "#999999"
RIVAL_COLORS = {"strict": "#D55E00", "independent": "#009E73", "best of N": "#CC79A7", "islands": "#E69F00",
                "Thompson": "#56B4E9", "linear model": "#888888"}  # fmt: skip
SIZE_COLORS = {1: "#999999", 16: "#009E73", 64: "#D55E00", 256: "#0072B2"}
MOMENTS = 80

STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #222 }
.title { font-weight: 600; font-size: 14px }
.axis { stroke: #888; stroke-width: 1 }
.grid { stroke: #8884; stroke-width: 1 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } }"""


class Panel(NamedTuple):
    """A plot's place in pixels, and the ranges of its axes; x is logarithmic, y if `is_log`."""

    left: float
    top: float
    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    is_log: bool

    def place(self, x: float, y: float) -> tuple[float, float]:
        low, high = (log10(bound) for bound in self.x_range)
        across = (log10(x) - low) / (high - low)
        scale: Callable[[float], float] = log10 if self.is_log else float
        low, high = scale(self.y_range[0]), scale(self.y_range[1])
        up = (scale(min(max(y, self.y_range[0]), self.y_range[1])) - low) / (high - low)
        return self.left + across * self.width, self.top + (1 - up) * self.height


def draw_figure(results: Results, file: Path) -> None:
    """Write the figure of the mixed world."""
    trials = [trial for trial in results.trials if trial.world == MIXED.name]
    speeds = Panel(70, 60, 300, 270, (1, 256), (0.5, 300), is_log=True)
    shares = Panel(530, 60, 300, 270, (1, 256), (0, 1.2), is_log=False)
    body = "\n".join([*_draw_speeds(speeds, results), *_draw_shares(shares, trials)])
    seeds = len({trial.seed for trial in trials})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="How much '
        f'faster a swarm reaches the target, by its size">\n<style>{STYLE}</style>\n{body}\n'
        f'<text x="70" y="{HEIGHT - 10}">{seeds} landscapes; bars are 95 % intervals. Circles are what was asked for.'
        f"</text>\n</svg>\n"
    )


def _draw_speeds(panel: Panel, results: Results) -> Iterator[str]:
    yield from _frame(panel, "Times faster to the target than one thread", "workers", SIZES, (1, 10, 100))
    yield _line(panel, [(1, 1), (256, 256)], IDEAL, "4 4")
    yield _label(panel, 100, 140, "as many as workers", IDEAL, anchor="end")
    lines = [(name, color, [results.speed_of(MIXED.name, size, name) for size in SIZES]) for name, color in
             RIVAL_COLORS.items()]  # fmt: skip
    lines.append(("swarm", SWARM, [results.speed(MIXED.name, size) for size in SIZES]))
    taken = float("inf")
    for name, color, found in sorted(lines, key=lambda line: -(line[-1][-1] or Estimate(0, 0)).mean):
        points = [(size, ratio) for size, ratio in zip(SIZES, found, strict=True) if ratio is not None]
        yield _line(panel, [(size, ratio.mean) for size, ratio in points], color)
        for size, ratio in points:
            yield from _draw_estimate(panel, size, ratio, color)
        if points:
            taken = min(points[-1][1].mean, taken / 1.4)
            yield _label(panel, points[-1][0], taken, name, color)
    for size, asked in GOALS.items():
        x, y = panel.place(size, asked)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="none" stroke="{SWARM}"/>'


def _draw_shares(panel: Panel, trials: Sequence[Trial]) -> Iterator[str]:
    title = "Gain of what leads, truly, as a share of the target's"
    yield from _frame(panel, title, "time, in runs of one worker", (1, 4, 16, 64, 256), (0.0, 0.5, 1.0))
    yield _line(panel, [(1, 1), (256, 1)], IDEAL, "4 4")
    for number, size in enumerate(reversed(SIZES)):
        some = [trial for trial in trials if trial.workers == size]
        if some:
            yield _line(panel, list(_average_share(some, HORIZONS[size])), SIZE_COLORS[size])
            words = f"{size} worker{'s' if size > 1 else ''}"
            yield _label(panel, panel.x_range[1], 0.9 - 0.1 * number, words, SIZE_COLORS[size])


def _average_share(trials: Sequence[Trial], until: float) -> Iterator[tuple[float, float]]:
    """The mean share of the target's gain at moments of equal ratio."""
    ends = [trial.curve[-1][0] for trial in trials]
    until = min(until, mean(ends))
    for moment in range(MOMENTS + 1):
        time = until ** (moment / MOMENTS)
        yield time, mean(_share_at(trial, time) for trial in trials)


def _share_at(trial: Trial, time: float) -> float:
    value = START
    for moment, known in trial.curve:
        if moment > time:
            break
        value = known
    return (START - value) / (START - trial.target)


def _frame(panel: Panel, title: str, across: str, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> Iterator[str]:
    right, bottom = panel.left + panel.width, panel.top + panel.height
    yield f'<text class="title" x="{panel.left - 40}" y="{panel.top - 25}">{title}</text>'
    yield f'<line class="axis" x1="{panel.left}" y1="{bottom}" x2="{right}" y2="{bottom}"/>'
    for tick in x_ticks:
        x, _ = panel.place(tick, panel.y_range[0])
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>'
    for tick in y_ticks:
        _, y = panel.place(panel.x_range[0], tick)
        yield f'<line class="grid" x1="{panel.left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        yield f'<text x="{panel.left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
    yield f'<text x="{panel.left + panel.width / 2}" y="{bottom + 38}" text-anchor="middle">{across}</text>'


def _line(panel: Panel, points: Sequence[tuple[float, float]], color: str, dashes: str = "") -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (panel.place(*point) for point in points))
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dashes}"/>'


def _label(panel: Panel, x: float, y: float, text: str, color: str, anchor: str = "start") -> str:
    across, up = panel.place(x, y)
    across += 8 if anchor == "start" else -8
    return f'<text x="{across:.1f}" y="{up + 4:.1f}" text-anchor="{anchor}" style="fill: {color}">{text}</text>'


def _draw_estimate(panel: Panel, x: float, found: Estimate, color: str) -> Iterator[str]:
    across, up = panel.place(x, found.mean)
    yield f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3.5" fill="{color}"/>'
    if not isnan(found.half):
        _, low = panel.place(x, max(panel.y_range[0], found.mean - found.half))
        _, high = panel.place(x, found.mean + found.half)
        yield f'<line x1="{across:.1f}" y1="{low:.1f}" x2="{across:.1f}" y2="{high:.1f}" stroke="{color}"/>'
