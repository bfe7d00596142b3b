"""Does the swarm decide better than a loop? Simulated volunteers on the real coordinator, beside three rivals.

python -m tests.bench.bench_search                                  the table: 1, 16, 64, 256 workers, 20 seeds
python -m tests.bench.bench_search --workers 1 16 --seeds 3         a part of it
python -m tests.bench.bench_search --append docs/search.md

The landscapes were fixed before the policy was tuned (`landscape.py`). Seeds below TUNING_SEEDS were for tuning; the
table uses others. Intervals are 95 % of the mean, by Student's t. A swarm that does not reach the target within the
time that is simulated counts as if it took twice that time.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, sqrt
from pathlib import Path
from random import Random
from statistics import mean, stdev

from tests.bench.landscape import START, Landscape
from tests.bench.report import append_table, format_table
from tests.bench.search_rivals import Progress, independent_threads, keep_if_lower, strict_replication
from tests.bench.search_swarm import open_swarm

TUNING_SEEDS = 1000
SEQUENTIAL_RUNS = 125
"""The target: what keep-if-lower on one thread has reached after so many runs, on the mean of its repeats."""

REPEATS = 40
HEADINGS = (
    "workers", "seeds", "gain after as many runs / keep-if-lower's", "time to target: one thread / swarm",
    "one thread / strict", "one thread / independent", "record - true x 1e4", "keep-if-lower's x 1e4",
    "false verified / verified", "fabricated records", "wasted %", "measuring %",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """One seed: speeds are times one thread's, errors in the metric's unit."""

    gain_ratio: float
    speed: float
    strict_speed: float
    independent_speed: float
    record_errors: list[float]
    rival_error: float
    verified: int
    false: int
    fabricated_records: int
    wasted: float
    measuring: float


def find_target(landscape: Landscape, seed: int) -> tuple[float, float]:
    """The true value that one thread reaches on average, and how much too good it reports itself."""
    ends = []
    for repeat in range(REPEATS):
        walk = keep_if_lower(landscape, Random(f"target {seed} {repeat}"))
        ends.append([next(walk) for _ in range(SEQUENTIAL_RUNS)][-1])
    return mean(end.true for end in ends), mean(end.true - end.reported for end in ends)


def time_to(target: float, search: Callable[[Random], Iterator[Progress]], seed: int, repeats: int = 10) -> float:
    """Mean time until a rival's best is truly as good as the target; it is given up after four times the runs."""
    times = []
    for repeat in range(repeats):
        for step in search(Random(f"rival {seed} {repeat}")):
            if step.true <= target or step.time > 4 * SEQUENTIAL_RUNS:
                times.append(step.time)
                break
    return mean(times)


def try_seed(seed: int, workers: int) -> Outcome:
    """One landscape, searched by everyone."""
    landscape = Landscape(seed)
    target, rival_error = find_target(landscape, seed)
    one_thread = time_to(target, lambda draw: keep_if_lower(landscape, draw), seed)
    strict = time_to(target, lambda draw: strict_replication(landscape, workers, draw), seed)
    independent = time_to(target, lambda draw: independent_threads(landscape, workers, draw), seed)
    reached, value, last_epoch = inf, START, 0
    horizon = SEQUENTIAL_RUNS if workers == 1 else max(14.0, 1.3 * SEQUENTIAL_RUNS / workers**0.7)
    with open_swarm(landscape, workers, seed, clean=workers == 1) as swarm:
        for number, time in enumerate(swarm.run(horizon)):
            if swarm.tally.runs >= 1.5 * last_epoch + 16:
                swarm.end_epochs()
                last_epoch = swarm.tally.runs
            if number % max(1, workers // 8) == 0 and reached == inf:
                value = swarm.find_leader()
                reached = time if value <= target else inf
        value, claims, tally = swarm.find_leader(), swarm.list_claims(), swarm.tally
    return Outcome(
        gain_ratio=(START - value) / (START - target) if workers == 1 else float("nan"),
        speed=one_thread / min(reached, 2 * horizon),
        strict_speed=one_thread / strict,
        independent_speed=one_thread / independent,
        record_errors=[-claim.error for claim in claims if claim.is_record],
        rival_error=rival_error,
        verified=len(claims),
        false=sum(not claim.is_true for claim in claims),
        fabricated_records=sum(claim.is_record and claim.is_fabricated for claim in claims),
        wasted=tally.wasted / max(1, tally.runs),
        measuring=tally.measurements / max(1, tally.runs),
    )


def with_interval(values: list[float], scale: float = 1.0) -> str:
    """Mean and half of the 95 % interval; Student's t is taken as 2.1, its value for 20 seeds."""
    if not values:
        return "–"
    half = 2.1 * stdev(values) / sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{scale * mean(values):.2f} ± {scale * half:.2f}"


def describe(workers: int, outcomes: list[Outcome]) -> tuple[str, ...]:
    errors = [error for outcome in outcomes for error in outcome.record_errors]
    return (
        str(workers),
        str(len(outcomes)),
        with_interval([o.gain_ratio for o in outcomes]) if workers == 1 else "–",
        with_interval([o.speed for o in outcomes]),
        with_interval([o.strict_speed for o in outcomes]),
        with_interval([o.independent_speed for o in outcomes]),
        with_interval(errors, 1e4),
        with_interval([o.rival_error for o in outcomes], 1e4),
        f"{sum(o.false for o in outcomes)} / {sum(o.verified for o in outcomes)}",
        str(sum(o.fabricated_records for o in outcomes)),
        with_interval([o.wasted for o in outcomes], 100),
        with_interval([o.measuring for o in outcomes], 100),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--tuning", action="store_true", help="use the seeds that are for tuning")
    parser.add_argument("--append", type=Path)
    given = parser.parse_args()
    first = 0 if given.tuning else TUNING_SEEDS
    rows = []
    for workers in given.workers:
        outcomes = [try_seed(seed, workers) for seed in range(first, first + given.seeds)]
        rows.append(describe(workers, outcomes))
        print(rows[-1], flush=True)
    print(format_table(HEADINGS, rows))
    if given.append:
        append_table(given.append, "tests.bench.bench_search", HEADINGS, rows)


if __name__ == "__main__":
    main()
