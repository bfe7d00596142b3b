"""The simulated swarm in short: a check of direction, not of size."""

from pathlib import Path
from random import Random
from statistics import mean
from xml.etree import ElementTree

import pytest

from coordinator.evidence import epochs
from shared.experiments import JobKind, Step
from shared.leases import GrantedLease
from tests.bench import landscape as world
from tests.bench.landscape import START, Landscape
from tests.bench.search_agents import draft, read_code, write_code
from tests.bench.search_figure import draw_figure
from tests.bench.search_report import compare_times, describe, list_goals
from tests.bench.search_rivals import keep_if_lower, strict_replication
from tests.bench.search_swarm import open_swarm
from tests.bench.search_trial import REPORTED_SEEDS, TUNING_SEEDS, Trial, append_trial, find_target, read_trials


def test_a_small_swarm_searches_and_its_numbers_follow_from_its_runs() -> None:
    """Ten volunteers, with liars and hardware of all kinds, are faster than one thread, and claim nothing false."""
    landscape = Landscape(3)
    target, _ = find_target(landscape, 3)
    with open_swarm(landscape, 10, seed=3) as swarm:
        for _ in swarm.run(until=14):
            pass
        with swarm.database.read() as session:
            assert list(epochs.find_differences(session)) == []
        gained = START - swarm.find_leader()
        assert gained > 0.15 * (START - target), "in a ninth of the time that one thread needs for all of it"
        tally = swarm.tally
        assert tally.kinds[JobKind.ADOPT] > 0 and tally.wasted <= 0.03 * tally.runs
        assert tally.measurements < 0.3 * tally.runs
        assert all(claim.is_true and not claim.is_fabricated for claim in swarm.list_claims())


def test_rivals_behave_as_published() -> None:
    """Keep-if-lower reports itself too good, and demanding replication first costs progress."""
    too_good = []
    for seed in range(20):
        walk = keep_if_lower(Landscape(seed), Random(seed))
        end = [next(walk) for _ in range(125)][-1]
        too_good.append(end.true - end.reported)
    assert 0.0008 < mean(too_good) < 0.0016
    loose, strict = 0.0, 0.0
    for seed in range(20):
        first, second = (
            keep_if_lower(Landscape(seed), Random(seed)),
            strict_replication(Landscape(seed), 1, Random(seed)),
        )
        loose += START - [next(first) for _ in range(125)][-1].true
        strict += START - [next(second) for _ in range(125)][-1].true
    assert strict < loose


def make_trial(seed: int, workers: int, swarm: float | None, one_thread: float = 120.0) -> Trial:
    return Trial(
        seed=seed, workers=workers, target=START - 0.03, keep_if_lower_error=-0.001, one_thread=one_thread, strict=30,
        independent=60, swarm=swarm, gain=0.03 if workers == 1 else None, search_gain=0.033 if workers == 1 else None,
        record_errors=[-0.0001, 0.0003], verified=5, false=0, fabricated_records=0, records_by_fabricators=0, runs=100,
        wasted=1, measurements=20, curve=[(0.5, START), (2.0, START - 0.03)],
    )  # fmt: skip


def test_trials_are_kept_reported_and_drawn(tmp_path: Path) -> None:
    assert not set(TUNING_SEEDS) & set(REPORTED_SEEDS)
    trials = [make_trial(seed, size, 120 / size) for seed in range(3) for size in (1, 16, 64)]
    for trial in trials:
        append_trial(tmp_path / "trials.jsonl", trial)
    assert read_trials(tmp_path / "trials.jsonl") == trials and read_trials(tmp_path / "none.jsonl") == []
    row = describe(16, [trial for trial in trials if trial.workers == 16])
    assert row[:3] == ("16", "3", "16.00 ± 0.00") and "0 / 15" in row
    goals = {goal.text: str(goal) for goal in list_goals(trials)}
    assert goals["16 workers, times faster to the target"].endswith("asked at least 12: reached")
    assert goals["256 workers, times faster to the target"].endswith("not measured")
    assert goals["record too good by, in 10^-4"].startswith("record too good by, in 10^-4: -1 ")
    draw_figure(trials, tmp_path / "search.svg")
    words = [text.text for text in ElementTree.parse(tmp_path / "search.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert "swarm" in words and "64 workers" in words


def test_a_search_that_never_arrives_counts_as_slow_and_times_are_averaged_before_they_are_compared() -> None:
    fast, slow = make_trial(0, 16, 10.0), make_trial(1, 16, None)
    ratio = compare_times([fast, slow], lambda trial: trial.swarm_time)
    assert slow.swarm_time == 48 and ratio is not None and ratio.mean == pytest.approx(120 / 29)


def test_simulated_agents_put_steps_together_as_a_merge_would() -> None:
    base, known = (5,) * world.KNOBS, {}
    for name, knob, before, after in (("new", 0, 5, 6), ("there", 1, 4, 5), ("torn", 2, 7, 8)):
        known[f"{name} before"] = tuple(before if at == knob else 5 for at in range(world.KNOBS))
        known[name] = tuple(after if at == knob else 5 for at in range(world.KNOBS))
    steps = [
        Step.model_construct(experiment_id=number, title=name, sha=name, parent_sha=f"{name} before")
        for number, name in enumerate(("new", "there", "torn"))
    ]
    empty = GrantedLease.model_fields["assignment"].default
    lease = GrantedLease.model_construct(kind=JobKind.ADOPT, assignment=empty.model_copy(update={"steps": steps}))
    drafted = draft(lease, base, known, [], Random(1))
    assert drafted is not None and drafted.levels == (6, *base[1:])
    assert [step.fate for step in drafted.proposal.steps] == ["done", "idle", "conflict"]
    assert read_code(write_code(drafted.levels)) == drafted.levels
