"""Small swarms on the real coordinator whose truth is known, in short: how they draw it, and what is read of them."""

from dataclasses import replace
from statistics import fmean, stdev

from tests.bench.records_swarm import CONTRACT, HOLDOUT, WORK, MachinesSwarm, PacedSwarm, WindowsSwarm
from tests.bench.sybils import START, open_sybils

SHORT = replace(WORK, patient_jobs=5)


def test_intervals_of_machines_that_gain_differently_are_compared_with_the_truth() -> None:
    with open_sybils(SHORT, 1, MachinesSwarm) as swarm:
        swarm.run()
        covered = list(swarm.list_covered())
        assert len(covered) == len(swarm.authors) > 10 and 0.3 < fmean(covered) < 1
        assert stdev(swarm.gains.values()) > 0.05 and swarm.list_doubted() == []


def test_budgets_that_are_normalised_make_machines_of_unlike_speed_gain_alike() -> None:
    with open_sybils(SHORT, 1, PacedSwarm) as swarm:
        swarm.run()
        gains = [swarm.gains[one.name] * one.pace for one in swarm.members]
        assert stdev(gains) < 0.05 < stdev(swarm.gains.values()) and 0.3 < fmean(swarm.list_covered()) < 1


def test_half_of_what_is_found_on_a_fixed_shard_is_not_there_elsewhere() -> None:
    with open_sybils(SHORT, 1, WindowsSwarm, CONTRACT + HOLDOUT) as swarm:
        swarm.run()
        assert len(swarm.elsewhere) > 10
        own = [swarm.truth[sha] - value for sha, value in swarm.elsewhere.items()]
        true = [value - START for value in swarm.elsewhere.values()]
        assert 0.3 < stdev(own) / stdev(true) < 3
        assert swarm.find_checked() is None, "nothing was confirmed in so short a time"
