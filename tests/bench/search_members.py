"""Simulated volunteers with a worker each: honest ones, pairs that fabricate and vouch for each other, broken ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

import httpx

from coordinator.accounts.service import create_token
from coordinator.db.database import Database
from shared.leases import GrantedLease
from shared.runs import Hardware
from tests.bench import landscape as world
from tests.bench.landscape import Landscape, Levels
from tests.support.messages import HARDWARE
from tests.support.volunteers import MiniWorker


@dataclass
class Member:
    """One volunteer with one worker. `pair` names the two fabricators that it is one of, if it is."""

    client: MiniWorker
    hardware: Hardware
    class_shift: float
    offset: float
    is_broken: bool
    pair: str | None
    jobs: int = 0

    @property
    def fabricates(self) -> bool:
        return self.pair is not None and self.jobs >= world.HONEST_JOBS

    def makes_up(self, lease: GrantedLease, vouched: Mapping[str, str]) -> bool:
        """Whether it invents what it reports of a job. `vouched` are commits by fabricators, with their pair."""
        if not self.fabricates:
            return False
        return lease.kind.makes_experiment or vouched.get(lease.base.sha) == self.pair

    def measure(
        self,
        landscape: Landscape,
        lease: GrantedLease,
        levels: Levels,
        base: Levels,
        vouched: Mapping[str, str],
        draw: Random,
    ) -> float | None:
        """The metric that this worker reports; None if the run crashed; `vouched` as in `makes_up`."""
        shift = self.class_shift + self.offset
        noise = draw.gauss(0, world.NOISE_SD)
        truth = landscape.value(levels) + shift
        if self.makes_up(lease, vouched):
            honest = landscape.value(base) + shift if lease.kind.makes_experiment else truth
            return honest - world.FABRICATED_GAIN + noise
        if draw.random() < world.CRASH_SHARE:
            return None
        if self.is_broken:
            return truth + 2 * world.BROKEN_BIAS * draw.random() + draw.gauss(0, world.BROKEN_NOISE_SD)
        return truth + noise


def make_fleet(database: Database, http: httpx.Client, workers: int, draw: Random, *, clean: bool) -> list[Member]:
    """A fleet of volunteers. A clean one, as rivals have, has one hardware class, no liars and no faults."""
    pairs = 0 if clean else round(workers * world.FABRICATOR_SHARE / 2)
    broken = 0 if clean else round(workers * world.BROKEN_SHARE)
    names = list(world.CLASSES)[:1] if clean else list(world.CLASSES)
    members = []
    for number in range(workers):
        with database.write() as session:
            token = create_token(session, f"volunteer-{number}", "bench")
        name = draw.choices(names, [world.CLASSES[name] for name in names])[0]
        members.append(
            Member(
                client=MiniWorker(http, token, f"worker-{number}"),
                hardware=HARDWARE.model_copy(update={"isa": name}),
                class_shift=world.CLASS_SHIFT[name],
                offset=draw.gauss(0, world.OFFSET_SD),
                is_broken=workers - number <= broken,
                pair=f"pair-{number // 2}" if number // 2 < pairs else None,
            )
        )
    return members
