"""Simulated volunteers with a worker each, on the machines of a world."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

import httpx

from coordinator.db.database import Database
from shared.leases import GrantedLease
from shared.runs import Hardware
from tests.bench.landscape import Landscape, Levels
from tests.bench.worlds import Machine, World, make_machines
from tests.support.messages import HARDWARE
from tests.support.tokens import create_token
from tests.support.volunteers import MiniWorker


@dataclass
class Member:
    """One volunteer with one worker."""

    client: MiniWorker
    hardware: Hardware
    machine: Machine

    def makes_up(self, lease: GrantedLease, makers: Mapping[str, str]) -> bool:
        """Whether it invents what it reports of a job. `makers` are commits by fabricators, with their pair."""
        return self.machine.makes_up(makers.get(lease.base.sha), is_idea=lease.kind.makes_experiment)

    def measure(
        self,
        landscape: Landscape,
        lease: GrantedLease,
        levels: Levels,
        base: Levels,
        makers: Mapping[str, str],
        time: float,
        draw: Random,
    ) -> float | None:
        """The metric that this worker reports; None if the run crashed; `makers` as in `makes_up`."""
        pair = makers.get(lease.base.sha)
        is_idea = lease.kind.makes_experiment
        return self.machine.report(landscape, levels, base, pair, time, draw, is_idea=is_idea)


def make_fleet(database: Database, http: httpx.Client, world: World, workers: int, draw: Random) -> list[Member]:
    """A volunteer with an account for each machine of the world."""
    members = []
    for number, machine in enumerate(make_machines(world, workers, draw)):
        with database.write() as session:
            token = create_token(session, f"volunteer-{number}", "bench")
        hardware = HARDWARE.model_copy(update={"isa": machine.hardware_class})
        members.append(Member(MiniWorker(http, token, f"worker-{number}"), hardware, machine))
    return members
