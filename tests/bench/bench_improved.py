"""How often `improved` by one run is false: with the contract's prior of effects, and with those that a class teaches.

python -m tests.bench.bench_improved               all worlds, in a few minutes
python -m tests.bench.bench_improved --seeds 2     fewer landscapes

The statistics are the coordinator's, its work is not: MACHINES volunteers experiment one after the other, each from the
commit that a draw from the posteriors says is best, and nobody repeats anything. Values count from each machine's own
run of the seed. A verdict is false where the commit is in truth no better than its parent.
"""

import argparse
from collections.abc import Iterator, Sequence
from random import Random

from coordinator.evidence import effects, statistics
from coordinator.evidence.effects import MeasuredCommit, Priors
from coordinator.evidence.statistics import Belief, EffectPrior, Measurement, Normal
from shared.experiments import Verdict
from tests.bench.landscape import NOISE_SD, START, Levels
from tests.bench.report import format_table
from tests.bench.search_report import bound_share_twice
from tests.bench.worlds import WORLDS, World, make_machines

MACHINES, RUNS, EPOCH = 16, 200, 25
EFFECT_SD, MIN_EFFECT = 0.002, 0.0005
"""As in the contract of `gpt`."""

OWN_SEED = Normal(0.0, NOISE_SD)
"""The error of a machine's own run of the seed."""

SEEDS = range(3000, 3020)
HEADINGS = ("world", "contract's prior: false of improved", "95 %", "learnt priors: false of improved", "95 %")


def count_improved(world: World, seed: int, *, learns: bool) -> tuple[int, int]:
    """How many verdicts `improved` on one run were false, and how many there were."""
    landscape, draw = world.make_landscape(seed), Random(f"improved {seed}")
    machines = make_machines(world, MACHINES, draw)
    start = landscape.start
    priors: Priors = {None: EffectPrior(0.0, EFFECT_SD)}
    beliefs: dict[Levels, Belief] = {start: statistics.begin(Normal(START, NOISE_SD / MACHINES**0.5))}
    commits = [MeasuredCommit(str(start), None, 1, [_measure(START, worker) for worker in range(MACHINES)])]
    seeds = [machine.report(landscape, start, start, None, 0.0, draw, is_idea=False) for machine in machines]
    false = made = 0
    for run in range(RUNS):
        worker, time = run % MACHINES, 1 + run / MACHINES
        base = min(beliefs, key=lambda levels: draw.gauss(beliefs[levels].mean, beliefs[levels].metric.sd))
        levels, own_seed = landscape.propose(base, draw), seeds[worker]
        value = machines[worker].report(landscape, levels, base, None, time, draw, is_idea=True)
        machines[worker].jobs += 1
        if value is None or own_seed is None or levels in beliefs:
            continue
        measured = Normal(value - own_seed + START, (NOISE_SD**2 + OWN_SEED.sd**2) ** 0.5)
        effect = statistics.extend(beliefs[base].as_anchor(), 1, measured, priors[None]).difference
        beliefs[levels] = statistics.extend(beliefs[base], 1, measured, priors[None])
        commits.append(MeasuredCommit(str(levels), str(base), 1, [_measure(measured.mean, worker)]))
        if statistics.judge(effect, 1.0, MIN_EFFECT) is Verdict.IMPROVED:
            made += 1
            false += landscape.value(levels) >= landscape.value(base)
        if learns and len(commits) % EPOCH == 0:
            priors = effects.learn(commits, NOISE_SD, EFFECT_SD)
    return false, made


def _measure(value: float, worker: int) -> Measurement:
    return Measurement(value, worker, worker, True, OWN_SEED)


def list_rows(worlds: Sequence[World], seeds: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """Rows of HEADINGS."""
    for world in worlds:
        cells = [world.name]
        for learns in (False, True):
            counts = zip(*(count_improved(world, seed, learns=learns) for seed in seeds), strict=True)
            false, made = map(sum, counts)
            low, high = (100 * bound for bound in bound_share_twice(false, made))
            cells += [f"{false} of {made}", f"{low:.0f} to {high:.0f}" if made else "–"]
        yield tuple(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many landscapes in each world")
    parser.add_argument("--worlds", nargs="+", default=[*WORLDS], choices=[*WORLDS])
    given = parser.parse_args()
    print(format_table(HEADINGS, list(list_rows([WORLDS[name] for name in given.worlds], SEEDS[: given.seeds]))))


if __name__ == "__main__":
    main()
