"""The swarm's rivals: other ways to search the same landscapes in the same worlds, simulated without a coordinator.

A rival decides when a machine is free, and is told of a run when that has ended, not before (`Simulation`). A run lasts
1 ± 10 %. Where machines differ, each first measures the seed, and its values are counted from there. Rivals still have
it easier than the swarm: nothing is proposed twice on purpose, asking costs no time, and of an even world they know the
seed's value from the start.
"""

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import count
from math import inf, sqrt
from random import Random
from typing import NamedTuple

import numpy as np

from tests.bench.landscape import KNOBS, LEVELS, NOISE_SD, START, Landscape, Levels
from tests.bench.worlds import World, make_machines

REPLICATIONS = 3
ISLAND_WORKERS, POPULATION, MIGRATION = 16, 12, 16
"""An island has so many workers and members, and sends its best to the next one after so many results."""

CROSSOVER_SHARE = 0.5
EFFECT_SD = 0.002
ARMS = 128
CHANGES = 3
"""New steps in each run of the linear model. Of 2 to 8, tried on tuning landscapes, 3 did well at all sizes."""

FIRST_ROWS = 256  # measured configurations that its matrix has room for at first
SETTING_SD, MACHINE_SD, MISFIT_SD, SURPRISE = 0.003, 0.001, 0.001, 3.0
"""Priors of a setting's effect, of a machine's own seed run, and of what does not add up."""


class Progress(NamedTuple):
    """The state of a search after a run has ended: the true value of its best, and the value it reports of that."""

    time: float
    runs: int
    true: float
    reported: float


class Job(NamedTuple):
    """A run to make. An idea is a new configuration made from `base`; anything else measures what is known."""

    levels: Levels
    base: Levels
    is_idea: bool = True


class Policy(ABC):
    """A way to search. It sees no clock, no landscape but to propose, and no value but those that it is told."""

    def __init__(self, landscape: Landscape, workers: int, draw: Random) -> None:
        self.propose = landscape.propose
        self.start = landscape.start
        self.workers = workers
        self.draw = draw

    @abstractmethod
    def ask(self, machine: int) -> Job | None:
        """The next job of a machine that is free; None lets it wait until another run has ended."""

    @abstractmethod
    def tell(self, machine: int, job: Job, value: float | None) -> None:
        """Receives the value of a run of `ask`, the machine's own seed at START; None if it crashed."""

    @abstractmethod
    def find_best(self) -> tuple[Levels, float]:
        """The configuration that it would build upon, and the value that it reports of it."""


class Threads(Policy):
    """Keep-if-lower on each machine by itself; they share nothing, and the one that reports most gain counts."""

    def __init__(self, landscape: Landscape, workers: int, draw: Random) -> None:
        super().__init__(landscape, workers, draw)
        self._at = [(START, self.start)] * workers
        self._best = (START, self.start)

    def ask(self, machine: int) -> Job:
        _, levels = self._at[machine]
        return Job(self.propose(levels, self.draw), levels)

    def tell(self, machine: int, job: Job, value: float | None) -> None:
        if value is not None and value < self._at[machine][0]:
            self._at[machine] = (value, job.levels)
            self._best = min(self._best, self._at[machine])

    def find_best(self) -> tuple[Levels, float]:
        return self._best[1], self._best[0]


class StrictReplication(Policy):
    """One best commit for all; another takes its place once its mean of three runs is lower.

    What measured lower once is replicated before there are new ideas.
    """

    def __init__(self, landscape: Landscape, workers: int, draw: Random) -> None:
        super().__init__(landscape, workers, draw)
        self._at, self._mean = self.start, START
        self._values: dict[Levels, list[float]] = {}
        self._open: dict[Levels, int] = {}

    def ask(self, machine: int) -> Job:
        for levels, running in self._open.items():
            if len(self._values[levels]) + running < REPLICATIONS:
                self._open[levels] += 1
                return Job(levels, levels, is_idea=False)
        return Job(self.propose(self._at, self.draw), self._at)

    def tell(self, machine: int, job: Job, value: float | None) -> None:
        if not job.is_idea:
            if job.levels in self._open:  # else another's idea was the same, and made up the number
                self._open[job.levels] -= 1
        elif value is not None and value < self._mean and job.levels not in self._open:
            self._open[job.levels], self._values[job.levels] = 0, []
        values = self._values.get(job.levels)
        if value is None or values is None or job.levels not in self._open:
            return
        values.append(value)
        if len(values) >= REPLICATIONS:
            del self._open[job.levels]
            if sum(values) / len(values) < self._mean:
                self._at, self._mean = job.levels, sum(values) / len(values)

    def find_best(self) -> tuple[Levels, float]:
        return self._at, self._mean


class BestOfN(Policy):
    """Rounds: every machine tries an idea from the best commit, all wait for the last, and the lowest is built upon."""

    def __init__(self, landscape: Landscape, workers: int, draw: Random) -> None:
        super().__init__(landscape, workers, draw)
        self._at, self._value = self.start, START
        self._asked = self._told = 0
        self._round = (inf, self.start)

    def ask(self, machine: int) -> Job | None:
        if self._asked == self.workers:
            return None
        self._asked += 1
        return Job(self.propose(self._at, self.draw), self._at)

    def tell(self, machine: int, job: Job, value: float | None) -> None:
        self._told += 1
        if value is not None:
            self._round = min(self._round, (value, job.levels))
        if self._told == self.workers:
            if self._round[0] < self._value:
                self._value, self._at = self._round
            self._asked = self._told = 0
            self._round = (inf, self.start)

    def find_best(self) -> tuple[Levels, float]:
        return self._at, self._value


class Islands(Policy):
    """Steady-state evolution on islands of a few workers: tournaments of two, uniform crossover, one mutation."""

    def __init__(self, landscape: Landscape, workers: int, draw: Random) -> None:
        super().__init__(landscape, workers, draw)
        islands = max(1, workers // ISLAND_WORKERS)
        self._members: list[dict[Levels, float]] = [{self.start: START} for _ in range(islands)]
        self._results = [0] * islands

    def ask(self, machine: int) -> Job:
        members = self._members[machine % len(self._members)]
        first = self._select(members)
        child = first
        if self.draw.random() < CROSSOVER_SHARE:
            second = self._select(members)
            child = tuple(self.draw.choice(pair) for pair in zip(first, second, strict=True))
        if child in members or self.draw.random() < CROSSOVER_SHARE:
            child = self.propose(child, self.draw)
        return Job(child, first)

    def _select(self, members: dict[Levels, float]) -> Levels:
        known = list(members)
        return min(self.draw.choice(known), self.draw.choice(known), key=members.__getitem__)

    def tell(self, machine: int, job: Job, value: float | None) -> None:
        island = machine % len(self._members)
        if value is not None:
            self._add(island, job.levels, value)
        self._results[island] += 1
        if self._results[island] % MIGRATION == 0:
            best = min(self._members[island], key=self._members[island].__getitem__)
            self._add((island + 1) % len(self._members), best, self._members[island][best])

    def _add(self, island: int, levels: Levels, value: float) -> None:
        members = self._members[island]
        members[levels] = value
        if len(members) > POPULATION:
            del members[max(members, key=members.__getitem__)]

    def find_best(self) -> tuple[Levels, float]:
        value, levels = min((value, levels) for members in self._members for levels, value in members.items())
        return levels, value


class Thompson(Policy):
    """Asynchronous Thompson sampling: the commit whose draw is lowest is the next parent; values are shrunk to it."""

    def __init__(self, landscape: Landscape, workers: int, draw: Random) -> None:
        super().__init__(landscape, workers, draw)
        self._arms: dict[Levels, tuple[float, float]] = {self.start: (START, 0.0)}

    def ask(self, machine: int) -> Job:
        gauss = self.draw.gauss
        parent = min(self._arms, key=lambda levels: gauss(*self._arms[levels]))
        return Job(self.propose(parent, self.draw), parent)

    def tell(self, machine: int, job: Job, value: float | None) -> None:
        if value is None:
            return
        mean, sd = self._arms.get(job.levels) or self._arms.get(job.base) or (value, EFFECT_SD)
        variance = sd**2 if job.levels in self._arms else sd**2 + EFFECT_SD**2
        weight = variance / (variance + NOISE_SD**2)
        self._arms[job.levels] = (mean + weight * (value - mean), sqrt(variance * (1 - weight)))
        if len(self._arms) > ARMS:
            del self._arms[max(self._arms, key=lambda levels: self._arms[levels][0])]

    def find_best(self) -> tuple[Levels, float]:
        best = min(self._arms, key=lambda levels: self._arms[levels][0])
        return best, self._arms[best][0]


class LinearModel(Policy):
    """Several changes in each run, and a linear model of all settings: Bayesian regression on (knob, level), machine.

    A run has the settings whose drawn effects are lowest (Thompson sampling), and CHANGES new steps. The model builds
    upon the measured configuration that it expects most of. Surprises of more than SURPRISE sd are cut.
    """

    def __init__(self, landscape: Landscape, workers: int, draw: Random) -> None:
        super().__init__(landscape, workers, draw)
        self._settings = KNOBS * LEVELS
        self._mean = np.zeros(self._settings + workers)
        sds = np.concatenate([np.full(self._settings, SETTING_SD), np.full(workers, MACHINE_SD)])
        self._covariance = np.diag(sds**2)
        self._unseen = np.ones(self._settings, bool)
        self._normal = np.random.default_rng(draw.getrandbits(32)).standard_normal
        self._measured = [self.start]
        self._rows = np.zeros((FIRST_ROWS, self._settings), np.float32)
        self._best = (self.start, START)
        self._told = 0

    def ask(self, machine: int) -> Job:
        sds = np.sqrt(np.diag(self._covariance)[: self._settings])
        drawn = self._mean[: self._settings] + sds * self._normal(self._settings)
        drawn[self._unseen] = inf
        drawn[[knob * LEVELS + level for knob, level in enumerate(self.start)]] = 0.0
        base = tuple(int(level) for level in drawn.reshape(KNOBS, LEVELS).argmin(1))
        levels = base
        for _ in range(CHANGES):
            levels = self.propose(levels, self.draw)
        return Job(levels, base)

    def tell(self, machine: int, job: Job, value: float | None) -> None:
        if value is None:
            return
        settings = self._list_settings(job.levels)
        self._unseen[settings] = False
        told = [*settings, self._settings + machine]
        shared = self._covariance[:, told].sum(1)
        variance = shared[told].sum() + NOISE_SD**2 + MISFIT_SD**2
        most = SURPRISE * sqrt(variance)
        surprise = min(most, max(-most, value - START - self._mean[told].sum()))
        self._mean += shared * (surprise / variance)
        self._covariance -= np.outer(shared, shared) / variance
        if len(self._measured) == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        self._rows[len(self._measured), settings] = 1.0
        self._measured.append(job.levels)
        self._told += 1
        if self._told % max(1, self.workers // 16) == 0:
            expected = self._rows[: len(self._measured)] @ self._mean[: self._settings].astype(np.float32)
            best = int(expected.argmin())
            self._best = (self._measured[best], START + float(expected[best]))

    def _list_settings(self, levels: Levels) -> list[int]:
        """The places of settings that differ from the start's."""
        return [knob * LEVELS + level for knob, level in enumerate(levels) if level != self.start[knob]]

    def find_best(self) -> tuple[Levels, float]:
        return self._best


LINEAR = "linear model"
RIVALS: dict[str, type[Policy]] = {
    "strict": StrictReplication,
    "independent": Threads,
    "best of N": BestOfN,
    "islands": Islands,
    "Thompson": Thompson,
    LINEAR: LinearModel,
}


class Decision(NamedTuple):
    """A run that began: `known` counts the results that had been told by then."""

    time: float
    machine: int
    job: Job
    known: int


Observe = Callable[[float, float | None], float | None]


class Simulation:
    """A policy on machines of a world. `observe` may change what is told of a run that ends at a time."""

    def __init__(
        self,
        landscape: Landscape,
        world: World,
        workers: int,
        policy: type[Policy],
        draw: Random,
        observe: Observe = lambda _, value: value,
    ) -> None:
        self.landscape = landscape
        self.decisions: list[Decision] = []
        self._policy = policy(landscape, workers, Random(draw.random()))
        self._machines = make_machines(world, workers, Random(draw.random()))
        self._draw = Random(draw.random())
        self._observe = observe
        self._seeds: list[float | None] = [START if world.is_even else None] * workers
        self._makers: dict[Levels, str] = {}
        self._order = count()
        self._running: list[tuple[float, int, int, Job]] = []
        self._waiting: list[int] = []
        self._told = 0

    def run(self) -> Iterator[Progress]:
        """Work without an end; yields after each run."""
        for machine in range(len(self._machines)):
            self._begin(machine * 1e-6, machine)
        while self._running:
            time, _, machine, job = heapq.heappop(self._running)
            self._end(time, machine, job)
            levels, reported = self._policy.find_best()
            yield Progress(time, self._told, self.landscape.value(levels), reported)
            free, self._waiting = [*self._waiting, machine], []
            for one in free:
                self._begin(time, one)

    def _begin(self, time: float, machine: int) -> None:
        start = self.landscape.start
        is_new = self._seeds[machine] is None
        job = Job(start, start, is_idea=False) if is_new else self._policy.ask(machine)
        if job is None:
            self._waiting.append(machine)
            return
        self.decisions.append(Decision(time, machine, job, self._told))
        heapq.heappush(self._running, (time + self._draw.uniform(0.9, 1.1), next(self._order), machine, job))

    def _end(self, time: float, machine: int, job: Job) -> None:
        member = self._machines[machine]
        made_by = self._makers.get(job.levels)
        value = member.report(self.landscape, job.levels, job.base, made_by, time, self._draw, is_idea=job.is_idea)
        value = self._observe(time, value)
        if member.fabricates and member.pair and job.is_idea:
            self._makers[job.levels] = member.pair
        member.jobs += 1
        self._told += 1
        seed = self._seeds[machine]
        if seed is None:
            self._seeds[machine] = value
        else:
            self._policy.tell(machine, job, None if value is None else value - seed + START)


class EagerSimulation(Simulation):
    """Tells a result when its run begins, the fault of earlier reports."""

    def _begin(self, time: float, machine: int) -> None:
        before = len(self._running)
        super()._begin(time, machine)
        if len(self._running) > before:
            ends, _, _, job = max(self._running, key=lambda run: run[1])
            super()._end(ends, machine, job)

    def _end(self, time: float, machine: int, job: Job) -> None:
        pass


def search(
    landscape: Landscape, world: World, workers: int, policy: type[Policy], draw: Random,
    kind: type[Simulation] = Simulation,
) -> Iterator[Progress]:  # fmt: skip
    """A rival's progress, run by run."""
    return kind(landscape, world, workers, policy, draw).run()
