"""A research question with a known answer: finite knobs with interactions and diminishing returns, and noise.

The constants were fitted once, before any policy was tried on them, so that keep-if-lower on one thread of 125 runs
behaves like the published session in `tests/data/effect-sizes-h100-session.json` (125 experiments of 5 minutes on one
H100): its share of keeps, total gain and quantiles of differences; `python -m tests.bench.landscape` prints both.

    value(levels) = START + sum_k scale_k (x_k^2 - x0_k^2) + sum_(j,k) c_jk (x_j x_k - x0_j x0_k)

with x_k = (level_k - best_k) / LEVELS and x0 the start. A knob that stands well has little left to give, so returns
diminish; a pair's term moves the best place of one knob when the other one moves.
"""

import json
from pathlib import Path
from random import Random
from statistics import mean, quantiles

DATA = Path(__file__).parents[1] / "data" / "effect-sizes-h100-session.json"

START = 0.9979
KNOBS = 32
LEVELS = 12
SCALE_MEDIAN = 0.01
SCALE_LOG_SD = 1.3
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


class Landscape:
    """One question, drawn by its seed."""

    def __init__(self, seed: int) -> None:
        draw = Random(seed)
        self._best = [draw.randrange(LEVELS) for _ in range(KNOBS)]
        self._scale = [SCALE_MEDIAN * 2.718281828 ** draw.gauss(0, SCALE_LOG_SD) for _ in range(KNOBS)]
        pairs = [draw.sample(range(KNOBS), 2) for _ in range(PAIRS)]
        self._pairs = [
            (j, k, draw.uniform(-COUPLING, COUPLING) * (self._scale[j] * self._scale[k]) ** 0.5) for j, k in pairs
        ]
        self.start: Levels = tuple(
            max(0, min(LEVELS - 1, best + draw.randint(-MAX_DISTANCE, MAX_DISTANCE))) for best in self._best
        )
        self._shift = START - self._height(self.start)

    def _height(self, levels: Levels) -> float:
        x = [(level - best) / LEVELS for level, best in zip(levels, self._best, strict=True)]
        own = sum(scale * at**2 for scale, at in zip(self._scale, x, strict=True))
        return own + sum(c * x[j] * x[k] for j, k, c in self._pairs)

    def value(self, levels: Levels) -> float:
        """The true metric; lower is better."""
        return self._shift + self._height(levels)


def propose(levels: Levels, draw: Random) -> Levels:
    """A random proposal: one knob at another level."""
    knob = draw.randrange(KNOBS)
    if draw.random() < FAR_SHARE:
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
        tried = propose(at, draw)
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


def main() -> None:
    """Print the published session beside 200 simulated ones."""
    rows = json.loads(DATA.read_text())["rows"]
    published = [row["delta_vs_best"] for row in rows if row["delta_vs_best"] is not None]
    print(_describe("published", published, 0.9979 - 0.9697))
    every: list[float] = []
    gains = []
    for seed in range(200):
        path, differences = keep_if_lower(Landscape(seed), 125, Random(f"fit {seed}"))
        every += differences
        gains.append(START - path[-1])
    print(_describe("simulated", every, mean(gains)))


if __name__ == "__main__":
    main()
