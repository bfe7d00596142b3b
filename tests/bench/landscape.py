"""A research question with a known answer: finite knobs with interactions and diminishing returns, and noise.

The constants were fitted once, before any policy was tried on them, so that keep-if-lower on one thread of 125 runs
behaves like the published session in `tests/data/effect-sizes-h100-session.json` (125 experiments of 5 minutes on one
H100): its share of keeps, total gain and quantiles of differences; `python -m tests.bench.landscape` prints both.

    value(levels) = START + sum_k scale_k (x_k^2 - x0_k^2) + sum_(j,k) c_jk (x_j x_k - x0_j x0_k)

with x_k = (level_k - best_k) / LEVELS and x0 the start. A knob that stands well has little left to give, so returns
diminish; a pair's term moves the best place of one knob when the other one moves.

A landscape has a course: the share of the gain that one thread has after a tenth of its runs. In that published session
it was 0.84. STEADY was fitted without looking at it; EARLY and FIRST are fitted to it, by scales that differ more and
agents who try first what matters most.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import exp
from pathlib import Path
from random import Random
from statistics import mean, quantiles
from typing import NamedTuple

DATA = Path(__file__).parents[1] / "data" / "effect-sizes-h100-session.json"
SESSIONS = DATA.parent / "autoresearch-sessions"

START = 0.9979
KNOBS = 32
LEVELS = 12
SCALE_MEDIAN = 0.01
SCALE_LOG_SD = 1.3
SESSION_RUNS = 125
MAX_DISTANCE = 6
"""How many levels the start may be from a knob's best."""

PAIRS = 24
COUPLING = 0.5
"""A pair's coefficient is drawn within this share of the geometric mean of its two scales."""

FAR_SHARE = 0.1
"""Share of proposals that send a knob anywhere; the others move it by one or two levels."""

NOISE_SD = 0.0007
CRASH_SHARE = 0.02
OFFSET_SD = 0.01
CLASSES = {"H100": 0.6, "A100": 0.25, "L40S": 0.15}
"""Hardware classes with their shares of the fleet. Each shifts all values by as much as CLASS_SHIFT names."""

CLASS_SHIFT = {"H100": 0.0, "A100": 0.021, "L40S": 0.043}
FABRICATOR_SHARE = 0.05
HONEST_JOBS = 10
FABRICATED_GAIN = 0.004
BROKEN_SHARE = 0.02
BROKEN_NOISE_SD = 0.003
"""A broken machine measures with this noise, and this much too low on average."""

BROKEN_BIAS = -0.002
DUPLICATE_SHARE = 0.1
"""How often an agent proposes code that it knows exists, under other comments and layout."""

Levels = tuple[int, ...]


class Course(NamedTuple):
    """How a landscape's gains are spread. Agents choose a knob in proportion to its scale to the power of `insight`."""

    scale_median: float = SCALE_MEDIAN
    scale_log_sd: float = SCALE_LOG_SD
    insight: float = 0.0
    far_share: float = FAR_SHARE


STEADY = Course()
EARLY = Course(scale_median=0.0045, scale_log_sd=1.6, insight=0.6, far_share=0.3)
FIRST = Course(scale_median=0.0012, scale_log_sd=2.2, insight=2.5, far_share=0.3)
FLAT = Course(scale_median=0.0)
"""A landscape with nothing to find."""


class Landscape:
    """One question, drawn by its seed."""

    def __init__(self, seed: int, course: Course = STEADY) -> None:
        draw = Random(seed)
        self._best = [draw.randrange(LEVELS) for _ in range(KNOBS)]
        spread = [exp(draw.gauss(0, course.scale_log_sd)) for _ in range(KNOBS)]
        self._scale = [course.scale_median * one for one in spread]
        self._weights = list(accumulate(one**course.insight for one in spread))
        self._far_share = course.far_share
        pairs = [draw.sample(range(KNOBS), 2) for _ in range(PAIRS)]
        self._pairs = [
            (j, k, draw.uniform(-COUPLING, COUPLING) * (self._scale[j] * self._scale[k]) ** 0.5) for j, k in pairs
        ]
        self.start: Levels = tuple(
            max(0, min(LEVELS - 1, best + draw.randint(-MAX_DISTANCE, MAX_DISTANCE))) for best in self._best
        )
        self._shift = START - self._height(self.start)
        self._known: dict[Levels, float] = {}

    def _height(self, levels: Levels) -> float:
        x = [(level - best) / LEVELS for level, best in zip(levels, self._best, strict=True)]
        own = sum(scale * at**2 for scale, at in zip(self._scale, x, strict=True))
        return own + sum(c * x[j] * x[k] for j, k, c in self._pairs)

    def value(self, levels: Levels) -> float:
        """The true metric; lower is better."""
        known = self._known.get(levels)
        if known is None:
            known = self._known[levels] = self._shift + self._height(levels)
        return known

    def propose(self, levels: Levels, draw: Random) -> Levels:
        """A random proposal: one knob at another level."""
        if self._weights[-1] == KNOBS:
            knob = draw.randrange(KNOBS)
        else:
            knob = draw.choices(range(KNOBS), cum_weights=self._weights)[0]
        if draw.random() < self._far_share:
            level = draw.choice([level for level in range(LEVELS) if level != levels[knob]])
        else:
            steps = [step for step in (-2, -1, 1, 2) if 0 <= levels[knob] + step < LEVELS]
            level = levels[knob] + draw.choice(steps)
        return (*levels[:knob], level, *levels[knob + 1 :])


def keep_if_lower(landscape: Landscape, runs: int, draw: Random) -> tuple[list[float], list[float]]:
    """One thread that keeps what measures lower: the best true value after each run, and each measured difference."""
    at, reported = landscape.start, landscape.value(landscape.start) + draw.gauss(0, NOISE_SD)
    path, differences = [], []
    for _ in range(runs):
        tried = landscape.propose(at, draw)
        if draw.random() >= CRASH_SHARE:
            measured = landscape.value(tried) + draw.gauss(0, NOISE_SD)
            differences.append(measured - reported)
            if measured < reported:
                at, reported = tried, measured
        path.append(landscape.value(at))
    return path, differences


def _describe(name: str, differences: list[float], gain: float) -> str:
    cuts = quantiles(differences, n=20)
    shown = " ".join(f"{cuts[i] * 1e4:+7.1f}" for i in (0, 1, 4, 9, 14, 17, 18))
    keeps = mean(difference < 0 for difference in differences)
    return f"{name:<10} keeps {keeps:.2f}  gain {gain:.4f}  difference x 1e4 at 5 10 25 50 75 90 95 %: {shown}"


def read_sessions() -> Iterator[tuple[str, list[float]]]:
    """Recorded sessions: the gain that was kept after each experiment."""
    gain, path = 0.0, []
    for row in json.loads(DATA.read_text())["rows"][1:]:
        gain -= row["delta_vs_best"] if row["status"] == "keep" else 0.0
        path.append(gain)
    yield "effect-sizes-h100-session", path
    for file in sorted(SESSIONS.glob("*.tsv")):
        with file.open() as opened:
            rows = [(float(row["val_bpb"]), row["status"]) for row in csv.DictReader(opened, delimiter="\t")]
        kept = accumulate((value if status == "keep" else rows[0][0] for value, status in rows), min)
        yield file.stem, [rows[0][0] - best for best in kept][1:]


def share_after_tenth(paths: Sequence[Sequence[float]]) -> float:
    """The share of the gain that is reached after a tenth of the runs, of all paths together."""
    return sum(interpolate(path, len(path) / 10) for path in paths) / sum(path[-1] for path in paths)


def interpolate(path: Sequence[float], runs: float) -> float:
    """A path's gain after a fractional number of runs."""
    before = int(runs)
    known = [0.0, *path, path[-1]]
    return known[before] + (runs - before) * (known[before + 1] - known[before])


def main() -> None:
    """Print the published session beside 200 simulated ones, and the course of each."""
    rows = json.loads(DATA.read_text())["rows"]
    published = [row["delta_vs_best"] for row in rows if row["delta_vs_best"] is not None]
    print(_describe("published", published, 0.9979 - 0.9697))
    for name, path in read_sessions():
        print(f"recorded  {name}: {len(path)} runs, share of the gain after a tenth {share_after_tenth([path]):.2f}")
    for name, course in (("STEADY", STEADY), ("EARLY", EARLY), ("FIRST", FIRST)):
        every: list[float] = []
        gains = []
        for seed in range(200):
            landscape = Landscape(seed, course)
            path, differences = keep_if_lower(landscape, SESSION_RUNS, Random(f"fit {seed}"))
            every += differences
            gains.append([START - value for value in path])
        print(_describe(name, every, mean(path[-1] for path in gains)))
        print(f"{name}: share of the gain after a tenth {share_after_tenth(gains):.2f}")


if __name__ == "__main__":
    main()
