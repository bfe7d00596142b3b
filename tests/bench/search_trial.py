"""One landscape searched by everyone in one world: keep-if-lower on one thread, the rivals, and the swarm."""

from collections.abc import Iterator
from functools import lru_cache
from math import inf
from pathlib import Path
from random import Random
from statistics import mean
from typing import NamedTuple, TypeVar

from pydantic import BaseModel

from tests.bench.landscape import FLAT, SESSION_RUNS, START, Landscape
from tests.bench.search_rivals import (
    RIVALS,
    EagerSimulation,
    Policy,
    Progress,
    Simulation,
    StrictReplication,
    Threads,
    search,
)
from tests.bench.search_swarm import Fate, Swarm, open_swarm
from tests.bench.worlds import MIXED, World

TUNING_SEEDS = range(1000)
"""The policy was tuned on landscapes of these seeds, and constants of landscapes fitted on them."""

REPORTED_SEEDS = range(3000, 3020)
"""Nothing was ever tried on these before the policy was as it is. (What 1000 to 1019 and 2000 to 2019 showed has
changed it.)"""

REPEATS = 40
HORIZONS = {1: 2.0 * SESSION_RUNS, 16: 24.0, 64: 16.0, 256: 5.0}
"""For how long a swarm of so many workers is simulated, in runs of one worker. Fabricators begin after ten jobs; with
256 workers, whose trials take longest, only the search is looked at, which reaches its target after three."""

GIVEN_UP = {1: 4.0 * SESSION_RUNS, 16: 125.0, 64: 64.0, 256: 32.0}
"""For how long a rival of so many workers is simulated. A search that does not reach its target counts as if it took
twice what was simulated."""

SETTLED = {16: 10.0, 64: 4.0, 256: 3.0}
"""A swarm of so many workers that has reached its target is simulated until then at least."""

CURVE_POINTS = 60


class RivalTrial(BaseModel):
    """A rival's repeats. `time` is to the target; `reached` the share of repeats that came there.

    `gain` is the true one of what it would build upon at the swarm's horizon, `error` is reported − true of that.
    """

    time: float
    reached: float
    gain: float
    error: float


class RivalTrials(BaseModel):
    """All rivals on one seed in one world. Times are in runs of one worker, values in the metric's unit.

    `target` is what one thread reached after SESSION_RUNS runs, on the mean of its repeats, `one_thread` the time in
    which it comes there.
    """

    world: str
    seed: int
    workers: int
    target: float
    one_thread: float
    rivals: dict[str, RivalTrial]


class Trial(BaseModel):
    """The swarm on one seed at one size. Times are in runs of one worker, values in the metric's unit.

    `gain` is the swarm's after SESSION_RUNS runs, `search_gain` after as many experiments, measurements not counted;
    both for one worker only. `swarm` is None where the target was not reached. `record_errors` are reported − true.
    `fabricated_records` rest on a result that was made up; `records_by_fabricators` are commits that came with one.
    `fates` are of all claims ever made, by kind: how many, false when they were made, and withdrawn by the end.
    `curve` holds (time, true value of the leader).
    """

    world: str = MIXED.name
    seed: int
    workers: int
    target: float
    keep_if_lower_error: float
    one_thread: float
    swarm: float | None = None
    gain: float | None = None
    search_gain: float | None = None
    record_errors: list[float]
    verified: int
    false: int
    fates: dict[str, Fate]
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


class OneThread(NamedTuple):
    """Keep-if-lower on one thread: the true value that it reaches on average in SESSION_RUNS runs, how much too good
    it reports itself then, and its mean time to that value."""

    target: float
    error: float
    time: float


@lru_cache
def follow_one_thread(seed: int, world: World) -> OneThread:
    """One thread on one landscape."""
    landscape = world.make_landscape(seed)
    ends = []
    for repeat in range(REPEATS):
        walk = search(landscape, world, 1, Threads, Random(f"target {seed} {repeat}"))
        ends.append(next(step for step in walk if step.runs == SESSION_RUNS))
    target = START if world.course is FLAT else mean(end.true for end in ends)
    time = try_rival(landscape, world, 1, Threads, target, seed, REPEATS).time
    return OneThread(target, mean(end.true - end.reported for end in ends), time)


def try_rival(
    landscape: Landscape, world: World, workers: int, policy: type[Policy], target: float, seed: int, repeats: int,
    kind: type[Simulation] = Simulation,
) -> RivalTrial:  # fmt: skip
    """A rival's repeats on one landscape."""
    results = []
    for repeat in range(repeats):
        walk = search(landscape, world, workers, policy, Random(f"rival {seed} {repeat}"), kind)
        results.append(_follow(walk, target, HORIZONS[workers], GIVEN_UP[workers]))
    times, ends = zip(*results, strict=True)
    return RivalTrial(
        time=round(mean(2 * GIVEN_UP[workers] if time is None else time for time in times), 3),
        reached=round(mean(time is not None for time in times), 3),
        gain=round(START - mean(end.true for end in ends), 6),
        error=round(mean(end.reported - end.true for end in ends), 6),
    )


def _follow(walk: Iterator[Progress], target: float, horizon: float, given_up: float) -> tuple[float | None, Progress]:
    """The time to the target, None if it is not reached, and the state at the horizon."""
    reached, at_horizon = None, Progress(0.0, 0, START, START)
    for step in walk:
        if step.time <= horizon:
            at_horizon = step
        if reached is None and step.true <= target:
            reached = step.time
        if step.time > given_up or (reached is not None and step.time > horizon):
            break
    return reached, at_horizon


def try_rivals(seed: int, workers: int, world: World) -> RivalTrials:
    """One landscape searched by all rivals. Where there is nothing to find, only what they report matters."""
    landscape, alone = world.make_landscape(seed), follow_one_thread(seed, world)
    repeats = max(2, REPEATS // workers)
    rivals = {
        name: try_rival(landscape, world, workers, policy, alone.target, seed, repeats)
        for name, policy in RIVALS.items()
    }
    return RivalTrials(
        world=world.name, seed=seed, workers=workers, target=alone.target, one_thread=alone.time, rivals=rivals
    )


def try_strict(seed: int, workers: int, world: World) -> tuple[float, float, float]:
    """The times to the target of one thread, of the strict rival, and of one that knows results when runs begin."""
    landscape, alone = world.make_landscape(seed), follow_one_thread(seed, world)
    causal, ahead = (
        try_rival(landscape, world, workers, StrictReplication, alone.target, seed, max(2, REPEATS // workers), kind)
        for kind in (Simulation, EagerSimulation)
    )
    return alone.time, causal.time, ahead.time


def try_seed(seed: int, workers: int, world: World) -> Trial:
    """One landscape, searched by the swarm. A single worker meets no liars and no other hardware, like its rival."""
    landscape, alone = world.make_landscape(seed), follow_one_thread(seed, world)
    with open_swarm(landscape, workers, seed, world) as swarm:
        curve, gain, search_gain = _watch(swarm, workers, alone.target)
        claims, fates, tally = swarm.list_claims(), swarm.count_fates(), swarm.tally
    reached = next((time for time, value in curve if value <= alone.target), None)
    return Trial(
        world=world.name,
        seed=seed,
        workers=workers,
        target=alone.target,
        keep_if_lower_error=-alone.error,
        one_thread=alone.time,
        swarm=reached,
        gain=gain,
        search_gain=search_gain,
        record_errors=[claim.error for claim in claims if claim.is_record],
        verified=len(claims),
        false=sum(not claim.is_true for claim in claims),
        fates=fates,
        fabricated_records=sum(claim.is_record and claim.is_fabricated for claim in claims),
        records_by_fabricators=sum(claim.is_record and claim.is_by_fabricator for claim in claims),
        runs=tally.runs,
        wasted=tally.wasted,
        measurements=tally.measurements,
        curve=_thin(curve),
    )


def _watch(swarm: Swarm, workers: int, target: float) -> tuple[list[tuple[float, float]], float | None, float | None]:
    """The leader's true value over time; and for one worker the gains after as many runs and experiments."""
    curve, gain, search_gain = [], None, None
    is_reached = False
    for number, time in enumerate(swarm.run(HORIZONS.get(workers, 24.0))):
        if number % max(1, workers // 64) == 0:
            value = swarm.find_leader()
            if not curve or value != curve[-1][1]:
                curve.append((time, value))
            is_reached = is_reached or value <= target
            if is_reached and time >= SETTLED.get(workers, inf):
                break
        if workers == 1:
            gain = START - curve[-1][1] if swarm.tally.runs == SESSION_RUNS else gain
            search_gain = START - curve[-1][1]
            if swarm.tally.experiments == SESSION_RUNS:
                break
    return curve, gain, search_gain if workers == 1 else None


def _thin(curve: list[tuple[float, float]]) -> list[tuple[float, float]]:
    every = max(1, len(curve) // CURVE_POINTS)
    return [(round(time, 3), round(value, 6)) for time, value in curve[::every]]


AnyTrial = TypeVar("AnyTrial", Trial, RivalTrials)


def read_trials(kind: type[AnyTrial], file: Path | None) -> list[AnyTrial]:
    """Trials that were finished, in whatever order; none if there is no file."""
    if file is None or not file.exists():
        return []
    return [kind.model_validate_json(line) for line in file.read_text().splitlines() if line]


def append_trial(file: Path, trial: Trial | RivalTrials) -> None:
    """Keep a finished trial: a run that is stopped goes on after it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as opened:
        opened.write(trial.model_dump_json(exclude_none=True) + "\n")
