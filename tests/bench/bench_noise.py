"""Noise of a hardware class with liars in it, as the coordinator estimates it and as it did before; 0.0005 in truth.

python -m tests.bench.bench_noise
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from random import Random
from statistics import fmean
from unittest.mock import patch

from coordinator.evidence import offsets
from coordinator.evidence.offsets import PRIOR_RUNS, SharedRun, estimate
from tests.bench.report import format_table

NOISE_SD, OFFSET_SD, EFFECT_SD, LIE = 0.0005, 0.003, 0.002, 0.02
SWARMS = ((7, 0), (7, 1), (8, 2), (10, 3), (8, 4))
COMMITS = (3, 10, 60)
SEEDS = 20
HEADINGS = ("volunteers", "liars", "commits", "noise before", "noise now", "asks a maintainer")


def draw_runs(seed: int, volunteers: int, liars: int, commits: int) -> list[SharedRun]:
    """Each commit has its author and three checkers; in two of three runs liars add up to LIE, on the seed nothing."""
    draw = Random(seed)
    own = [draw.gauss(0, OFFSET_SD) for _ in range(volunteers)]
    runs = [SharedRun("seed", worker, offset + draw.gauss(0, NOISE_SD)) for worker, offset in enumerate(own)]
    for commit in range(commits):
        level = draw.gauss(0, EFFECT_SD)
        for place, worker in enumerate(draw.sample(range(volunteers), min(4, volunteers))):
            lie = LIE * draw.random() if worker < liars and draw.random() < 2 / 3 else 0.0
            runs.append(SharedRun(str(commit), worker, level + own[worker] + draw.gauss(0, NOISE_SD) - lie, place == 0))
    return runs


def pool_as_before(runs: Sequence[SharedRun], means: Mapping[int, float], noise_sd: float) -> float:
    """The estimate before: all squares, less a degree of freedom for each commit and each offset."""
    by_commit: dict[str, list[float]] = {}
    for run in runs:
        by_commit.setdefault(run.commit, []).append(run.value - means.get(run.worker_id, 0.0))
    squares, freedom = 0.0, -max(0, len(means.keys() & {run.worker_id for run in runs}) - 1)
    for values in by_commit.values():
        squares += sum((value - fmean(values)) ** 2 for value in values)
        freedom += len(values) - 1
    return sqrt((PRIOR_RUNS * noise_sd**2 + squares) / (PRIOR_RUNS + max(0, freedom)))


def estimate_as_before(runs: Sequence[SharedRun]) -> float:
    with patch.object(offsets, "pool_noise", lambda _, noise_sd, *_rest: noise_sd):
        means = {w: one.offset_at(0.0).mean for w, one in estimate(runs, NOISE_SD, OFFSET_SD).responses.items()}
    return pool_as_before([run for run in runs if not run.is_authors], means, NOISE_SD)


def main() -> None:
    rows = []
    for volunteers, liars in SWARMS:
        for commits in COMMITS:
            every = [draw_runs(seed, volunteers, liars, commits) for seed in range(SEEDS)]
            now = [estimate(runs, NOISE_SD, OFFSET_SD) for runs in every]
            before = fmean(map(estimate_as_before, every))
            asks = sum(one.disputed_noise_sd is not None for one in now)
            rows.append([str(volunteers), str(liars), str(commits), f"{before:.5f}",
                         f"{fmean(one.noise_sd for one in now):.5f}", f"{asks} of {SEEDS}"])  # fmt: skip
    print(format_table(HEADINGS, rows))


if __name__ == "__main__":
    main()
