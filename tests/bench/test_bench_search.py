"""The simulated swarm in short: a check of direction, not of size."""

from random import Random

from coordinator.evidence import service as evidence
from tests.bench.landscape import START, Landscape
from tests.bench.search_rivals import keep_if_lower, strict_replication
from tests.bench.search_swarm import open_swarm


def test_a_small_swarm_searches_and_its_numbers_follow_from_its_runs() -> None:
    with open_swarm(Landscape(3), 6, seed=3) as swarm:
        for number, _ in enumerate(swarm.run(until=12)):
            if number in (16, 40):
                swarm.end_epochs()
        with swarm.database.read() as session:
            assert list(evidence.find_differences(session)) == []
        assert swarm.find_leader() < START - 0.001
        assert swarm.tally.experiments > 30 and swarm.tally.wasted == 0
        assert 0 < swarm.tally.measurements < 0.5 * swarm.tally.runs
        assert all(claim.is_true for claim in swarm.list_claims())


def test_rivals_behave_as_published() -> None:
    """Keep-if-lower reports itself too good, and demanding replication first costs progress."""
    too_good = []
    for seed in range(20):
        walk = keep_if_lower(Landscape(seed), Random(seed))
        end = [next(walk) for _ in range(125)][-1]
        too_good.append(end.true - end.reported)
    assert 0.0008 < sum(too_good) / len(too_good) < 0.0016
    loose, strict = 0.0, 0.0
    for seed in range(20):
        first, second = (
            keep_if_lower(Landscape(seed), Random(seed)),
            strict_replication(Landscape(seed), 1, Random(seed)),
        )
        loose += START - [next(first) for _ in range(125)][-1].true
        strict += START - [next(second) for _ in range(125)][-1].true
    assert strict < loose
