"""One landscape searched by everyone: keep-if-lower, independent threads, strict replication, and the swarm."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from statistics import mean

from pydantic import BaseModel

from tests.bench.landscape import START, Landscape
from tests.bench.search_rivals import Progress, independent_threads, keep_if_lower, strict_replication
from tests.bench.search_swarm import Swarm, open_swarm

TUNING_SEEDS = range(1000)
"""The policy was tuned on landscapes of these seeds, and constants of landscapes fitted on them."""

REPORTED_SEEDS = range(3000, 3020)
"""Nothing was ever tried on these before the policy was as it is. (What 1000 to 1019 and 2000 to 2019 showed has
changed it.)"""

SEQUENTIAL_RUNS = 125
"""The target: what keep-if-lower on one thread has reached after so many runs, on the mean of its repeats."""

REPEATS = 40
HORIZONS = {1: 2.0 * SEQUENTIAL_RUNS, 16: 24.0, 64: 16.0, 256: 5.0}
"""For how long a swarm of so many workers is simulated, in runs of one worker. Fabricators begin after ten jobs; with
256 workers, whose trials take longest, only the search is looked at, which reaches its target after three."""

CURVE_POINTS = 60


class Trial(BaseModel):
    """One seed at one size. Times are in runs of one worker, values in the metric's unit.

    `gain` is the swarm's after SEQUENTIAL_RUNS runs, `search_gain` after as many experiments, measurements not counted;
    both for one worker only. `swarm` is None where the target was not reached. `record_errors` are reported − true.
    `fabricated_records` rest on a result that was made up; `records_by_fabricators` are commits that came with one.
    `curve` holds (time, true value of the leader).
    """

    seed: int
    workers: int
    target: float
    keep_if_lower_error: float
    one_thread: float
    strict: float
    independent: float
    swarm: float | None
    gain: float | None
    search_gain: float | None
    record_errors: list[float]
    verified: int
    false: int
    fabricated_records: int
    records_by_fabricators: int
    runs: int
    wasted: int
    measurements: int
    curve: list[tuple[float, float]]

    @property
    def swarm_time(self) -> float:
        """Time to the target; a search that does not reach it counts as if it took twice what was simulated."""
        return 2 * HORIZONS.get(self.workers, 24.0) if self.swarm is None else self.swarm


def find_target(landscape: Landscape, seed: int) -> tuple[float, float]:
    """The true value that one thread reaches on average, and how much too good it reports itself."""
    ends = []
    for repeat in range(REPEATS):
        walk = keep_if_lower(landscape, Random(f"target {seed} {repeat}"))
        ends.append([next(walk) for _ in range(SEQUENTIAL_RUNS - 1)][-1])
    return mean(end.true for end in ends), mean(end.true - end.reported for end in ends)


def time_to(target: float, search: Callable[[Random], Iterator[Progress]], seed: int, repeats: int = REPEATS) -> float:
    """Mean time until a rival's best is truly as good as the target; it is given up after four times the runs."""
    times = []
    for repeat in range(repeats):
        for step in search(Random(f"rival {seed} {repeat}")):
            if step.true <= target or step.time > 4 * SEQUENTIAL_RUNS:
                times.append(step.time)
                break
    return mean(times)


def try_seed(seed: int, workers: int) -> Trial:
    """One landscape, searched by everyone. A single worker meets no liars and no other hardware, like its rival."""
    landscape = Landscape(seed)
    target, error = find_target(landscape, seed)
    repeats = max(4, REPEATS // workers)
    with open_swarm(landscape, workers, seed, clean=workers == 1) as swarm:
        curve, gain, search_gain = _watch(swarm, workers)
        claims, tally = swarm.list_claims(), swarm.tally
    reached = next((time for time, value in curve if value <= target), None)
    return Trial(
        seed=seed,
        workers=workers,
        target=target,
        keep_if_lower_error=-error,
        one_thread=time_to(target, lambda draw: keep_if_lower(landscape, draw), seed),
        strict=time_to(target, lambda draw: strict_replication(landscape, workers, draw), seed, repeats),
        independent=time_to(target, lambda draw: independent_threads(landscape, workers, draw), seed, repeats),
        swarm=reached,
        gain=gain,
        search_gain=search_gain,
        record_errors=[claim.error for claim in claims if claim.is_record],
        verified=len(claims),
        false=sum(not claim.is_true for claim in claims),
        fabricated_records=sum(claim.is_record and claim.is_fabricated for claim in claims),
        records_by_fabricators=sum(claim.is_record and claim.is_by_fabricator for claim in claims),
        runs=tally.runs,
        wasted=tally.wasted,
        measurements=tally.measurements,
        curve=_thin(curve),
    )


def _watch(swarm: Swarm, workers: int) -> tuple[list[tuple[float, float]], float | None, float | None]:
    """The leader's true value over time; and for one worker the gains after as many runs and experiments."""
    curve, gain, search_gain = [], None, None
    for number, time in enumerate(swarm.run(HORIZONS.get(workers, 24.0))):
        if number % max(1, workers // 64) == 0:
            value = swarm.find_leader()
            if not curve or value != curve[-1][1]:
                curve.append((time, value))
        if workers == 1:
            gain = START - curve[-1][1] if swarm.tally.runs == SEQUENTIAL_RUNS else gain
            search_gain = START - curve[-1][1]
            if swarm.tally.experiments == SEQUENTIAL_RUNS:
                break
    return curve, gain, search_gain if workers == 1 else None


def _thin(curve: list[tuple[float, float]]) -> list[tuple[float, float]]:
    every = max(1, len(curve) // CURVE_POINTS)
    return [(round(time, 3), round(value, 6)) for time, value in curve[::every]]


def read_trials(file: Path) -> list[Trial]:
    """Trials that were finished, in whatever order; none if there is no file."""
    if not file.exists():
        return []
    return [Trial.model_validate_json(line) for line in file.read_text().splitlines() if line]


def append_trial(file: Path, trial: Trial) -> None:
    """Keep a finished trial: a run that is stopped goes on after it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as opened:
        opened.write(trial.model_dump_json() + "\n")
