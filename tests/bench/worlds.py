"""Worlds: what measures the landscapes. Machines with offsets, classes and faults, noise of several kinds, and liars.

Rivals and the swarm search in the same world, on the same machines: `Machine.report` is what either is told of a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, pi, sin, sqrt
from random import Random
from typing import NamedTuple

from tests.bench import landscape as sizes
from tests.bench.landscape import EARLY, FIRST, FLAT, START, STEADY, Course, Landscape, Levels

TAIL_DEGREES = 3
"""Heavy tails are those of Student's t with so many degrees of freedom, its sd that of the other noise."""

DRIFT_PERIOD = 20.0
"""In runs: a machine's offset goes up and down once in this time."""


class World(NamedTuple):
    """A world by its differences from that of the first reports, which is MIXED.

    `offset_sd` and `has_classes` are of machines, `honest_jobs` is after how many a fabricator begins. `drift` is the
    amplitude of the change of a machine's offset. Gains on a machine are multiplied by N(1, `gain_sd`). A commit's
    noise is lognormal about the common one, with `commit_log_sd`.
    """

    name: str
    course: Course = STEADY
    offset_sd: float = sizes.OFFSET_SD
    has_classes: bool = True
    fabricators: float = sizes.FABRICATOR_SHARE
    honest_jobs: int = sizes.HONEST_JOBS
    broken: float = sizes.BROKEN_SHARE
    has_tails: bool = False
    drift: float = 0.0
    gain_sd: float = 0.0
    commit_log_sd: float = 0.0

    @property
    def is_even(self) -> bool:
        """Whether all machines measure alike, so that values can be compared as they are."""
        return not (self.offset_sd or self.has_classes)

    def make_landscape(self, seed: int) -> Landscape:
        return Landscape(seed, self.course)


MIXED = World("mixed")
WORLDS = {
    world.name: world
    for world in (
        World("even", offset_sd=0.0, has_classes=False, fabricators=0.0, broken=0.0),
        MIXED,
        World("heavy tails", has_tails=True),
        World("drift", drift=0.002),
        World("gains by machine", gain_sd=0.15),
        World("commits' own noise", commit_log_sd=0.5),
        World("liars at once", fabricators=0.15, honest_jobs=0),
        World("half early", course=EARLY),
        World("front-loaded", course=FIRST),
        World("nothing to find", course=FLAT),
    )
}


@dataclass
class Machine:
    """A volunteer's machine. `pair` names the two fabricators that it is one of, if it is."""

    world: World
    hardware_class: str
    offset: float
    gain: float
    phase: float
    is_broken: bool
    pair: str | None
    jobs: int = 0

    @property
    def fabricates(self) -> bool:
        return self.pair is not None and self.jobs >= self.world.honest_jobs

    def makes_up(self, made_by: str | None, *, is_idea: bool) -> bool:
        """Whether it invents what it reports: of its own ideas, and of commits that its pair made (`made_by`)."""
        return self.fabricates and (is_idea or made_by == self.pair)

    def report(
        self,
        landscape: Landscape,
        levels: Levels,
        base: Levels,
        made_by: str | None,
        time: float,
        draw: Random,
        *,
        is_idea: bool,
    ) -> float | None:
        """The metric that it reports at `time` of a run; None if that crashed. `base` is an idea's parent."""
        noise = self._draw_noise(levels, draw)
        if self.makes_up(made_by, is_idea=is_idea):
            return self._value(landscape, base if is_idea else levels, time) - sizes.FABRICATED_GAIN + noise
        if draw.random() < sizes.CRASH_SHARE:
            return None
        if self.is_broken:
            noise = 2 * sizes.BROKEN_BIAS * draw.random() + draw.gauss(0, sizes.BROKEN_NOISE_SD)
        return self._value(landscape, levels, time) + noise

    def _value(self, landscape: Landscape, levels: Levels, time: float) -> float:
        drift = self.world.drift * sin(2 * pi * time / DRIFT_PERIOD + self.phase) if self.world.drift else 0.0
        shift = sizes.CLASS_SHIFT[self.hardware_class] + self.offset + drift
        return START + self.gain * (landscape.value(levels) - START) + shift

    def _draw_noise(self, levels: Levels, draw: Random) -> float:
        sd = sizes.NOISE_SD
        if self.world.commit_log_sd:
            sd *= exp(Random(hash(levels)).gauss(0, self.world.commit_log_sd))
        if self.world.has_tails:
            chi2 = sum(draw.gauss(0, 1) ** 2 for _ in range(TAIL_DEGREES))
            sd *= sqrt((TAIL_DEGREES - 2) / chi2)
        return draw.gauss(0, sd)


def make_machines(world: World, workers: int, draw: Random) -> list[Machine]:
    """The machines of so many volunteers; one alone is honest and works."""
    pairs = 0 if workers == 1 else round(workers * world.fabricators / 2)
    broken = 0 if workers == 1 else round(workers * world.broken)
    names: Sequence[str] = list(sizes.CLASSES) if world.has_classes and workers > 1 else list(sizes.CLASSES)[:1]
    return [
        Machine(
            world=world,
            hardware_class=draw.choices(names, [sizes.CLASSES[name] for name in names])[0],
            offset=draw.gauss(0, world.offset_sd),
            gain=draw.gauss(1, world.gain_sd),
            phase=draw.uniform(0, 2 * pi),
            is_broken=workers - number <= broken,
            pair=f"pair-{number // 2}" if number // 2 < pairs else None,
        )
        for number in range(workers)
    ]
