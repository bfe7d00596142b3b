"""The simulated swarm and its rivals in short: a check of direction, not of size."""

from collections.abc import Iterable
from pathlib import Path
from random import Random
from statistics import mean
from xml.etree import ElementTree

import pytest

from coordinator.evidence import epochs
from shared.experiments import JobKind, Standing, Step
from shared.leases import GrantedLease
from tests.bench import landscape as sizes
from tests.bench.bench_search import BEGIN, END, replace_report, write_report
from tests.bench.landscape import EARLY, FIRST, FLAT, START, STEADY, Landscape, share_after_tenth
from tests.bench.search_agents import Draft, draft, read_code, write_code
from tests.bench.search_figure import draw_figure
from tests.bench.search_members import Member
from tests.bench.search_report import Estimate, Goal, Results, bound_share, compare
from tests.bench.search_rivals import (
    RIVALS,
    Decision,
    EagerSimulation,
    Policy,
    Simulation,
    StrictReplication,
    Threads,
    search,
)
from tests.bench.search_swarm import Fate, Swarm, open_swarm
from tests.bench.search_trial import (
    REPORTED_SEEDS,
    TUNING_SEEDS,
    RivalTrial,
    RivalTrials,
    Trial,
    append_trial,
    follow_one_thread,
    read_trials,
)
from tests.bench.worlds import MIXED, WORLDS, World, make_machines

EVEN = WORLDS["even"]


def test_a_small_swarm_searches_and_its_numbers_follow_from_its_runs() -> None:
    """Ten volunteers, with liars and hardware of all kinds, are faster than one thread, and claim nothing false."""
    landscape = Landscape(3)
    target = follow_one_thread(3, MIXED).target
    with open_swarm(landscape, 10, seed=3) as swarm:
        for _ in swarm.run(until=14):
            pass
        with swarm.database.read() as session:
            assert list(epochs.find_differences(session)) == []
        gained = START - swarm.find_leader()
        assert gained > 0.15 * (START - target), "in a ninth of the time that one thread needs for all of it"
        tally = swarm.tally
        assert tally.kinds[JobKind.COMBINE] > 0 and tally.wasted <= 0.03 * tally.runs
        assert tally.measurements < 0.3 * tally.runs
        assert all(claim.is_true and not claim.is_fabricated for claim in swarm.list_claims())
        assert all(is_true for (_, _, kind), is_true in swarm.ever_claimed.items() if kind == Standing.VERIFIED)


class EagerSwarm(Swarm):
    """Delivers a result when its run begins, as if it had ended."""

    def _plan(
        self, time: float, member: Member, lease: GrantedLease | None = None, drafted: Draft | None = None
    ) -> None:
        if lease is not None:
            self._deliver(time, member, lease, drafted)
        super()._plan(time, member)


def find_early(swarm: Swarm) -> Iterable[str]:
    """Commits that a lease named before their first run had ended."""
    return (sha for job in swarm.decided for sha in job.shas if swarm.known_at[sha] > job.time)


def test_no_lease_of_the_swarm_names_a_commit_whose_run_has_not_ended() -> None:
    with open_swarm(Landscape(3), 6, seed=3) as swarm:
        for _ in swarm.run(until=6):
            pass
        assert len(swarm.decided) > 20 and not list(find_early(swarm))
    with open_swarm(Landscape(3), 6, seed=3, kind=EagerSwarm) as eager:
        for _ in eager.run(until=6):
            pass
        assert list(find_early(eager)), "the check finds it where results are known before their runs have ended"


ALTERED = 6.5


def decide(
    policy: type[Policy], world: World, kind: type[Simulation] = Simulation, since: float = ALTERED
) -> list[Decision]:
    """A rival's decisions until ALTERED, where all results of runs that end after `since` are changed."""
    simulation = kind(
        Landscape(5),
        world,
        12,
        policy,
        Random(7),
        lambda time, value: value and value - (time > since) * 0.1 * (1e4 * time % 1),
    )
    for step in simulation.run():
        if step.time > ALTERED:
            break
    return [decision for decision in simulation.decisions if decision.time <= ALTERED]


@pytest.mark.parametrize("world", [EVEN, MIXED], ids=lambda world: world.name)
@pytest.mark.parametrize("rival", RIVALS)
def test_no_decision_of_a_rival_depends_on_a_run_that_ends_after_it(rival: str, world: World) -> None:
    policy = RIVALS[rival]
    unchanged = decide(policy, world, since=1e9)
    assert len(unchanged) > 45 and decide(policy, world) == unchanged
    assert decide(policy, world, since=ALTERED - 3) != unchanged, "results that have ended do matter"


@pytest.mark.parametrize("rival", ["strict", "islands", "Thompson", "linear model"])
def test_a_rival_that_knows_results_of_runs_that_go_on_is_found(rival: str) -> None:
    policy = RIVALS[rival]
    assert decide(policy, EVEN, EagerSimulation) != decide(policy, EVEN, EagerSimulation, since=1e9)


def test_rivals_behave_as_published() -> None:
    """Keep-if-lower reports itself too good, and demanding replication first costs progress."""
    too_good = [-follow_one_thread(seed, EVEN).error for seed in range(3)]
    assert -0.0016 < mean(too_good) < -0.0006
    gained = dict.fromkeys((Threads, StrictReplication), 0.0)
    for policy in gained:
        for seed in range(20):
            walk = search(Landscape(seed), EVEN, 1, policy, Random(seed))
            gained[policy] += START - next(step for step in walk if step.runs == 125).true
    assert gained[StrictReplication] < gained[Threads]


def test_landscapes_have_the_courses_of_sessions() -> None:
    shares = {}
    for course in (STEADY, EARLY, FIRST):
        walks = [sizes.keep_if_lower(Landscape(seed, course), 125, Random(seed))[0] for seed in range(60)]
        shares[course] = share_after_tenth([[START - value for value in walk] for walk in walks])
    assert shares[STEADY] < 0.25 < 0.35 < shares[EARLY] < 0.6 < 0.7 < shares[FIRST] < 0.95
    flat = Landscape(1, FLAT)
    assert flat.value(flat.propose(flat.start, Random(1))) == START


def report(world: World, number: int = 0, workers: int = 20, *, is_idea: bool = True, **changes: object) -> list[float]:
    """Values that a machine reports of 2000 runs of the seed's configuration, its class and offset taken off."""
    landscape, draw = Landscape(1), Random(2)
    machine = make_machines(world, workers, Random(3))[number]
    for name, value in changes.items():
        setattr(machine, name, value)
    shift = sizes.CLASS_SHIFT[machine.hardware_class] + machine.offset + START
    start = landscape.start
    told = [machine.report(landscape, start, start, None, t / 20, draw, is_idea=is_idea) for t in range(2000)]
    return [value - shift for value in told if value is not None]


def test_worlds_differ_in_what_they_are_named_for() -> None:
    def spread(values: list[float]) -> float:
        return mean(value**2 for value in values) ** 0.5

    honest = report(MIXED, 10)
    assert abs(mean(honest)) < 2e-4 and spread(honest) == pytest.approx(sizes.NOISE_SD, rel=0.15)
    assert max(map(abs, report(WORLDS["heavy tails"], 10))) > 1.5 * max(map(abs, honest))
    assert spread(report(WORLDS["drift"], 10)) > 1.5 * spread(honest)
    liars = WORLDS["liars at once"]
    assert mean(report(liars, 0)) < -0.003 and abs(mean(report(MIXED, 0, 40))) < 3e-4, "MIXED's begin after ten jobs"
    assert abs(mean(report(liars, 0, is_idea=False))) < 2e-4, "and are honest of what others made"
    landscape, draw = Landscape(1), Random(2)
    better = min((landscape.propose(landscape.start, draw) for _ in range(200)), key=landscape.value)
    gains = [
        mean(machine.report(landscape, better, better, None, 0, draw, is_idea=False) or 0.0 for machine in [one] * 50)
        for one in make_machines(WORLDS["gains by machine"]._replace(offset_sd=0, has_classes=False, broken=0), 4, draw)
    ]
    assert max(gains) - min(gains) > 1e-4


def test_lies_mislead_a_rival_that_believes_single_runs() -> None:
    """The attack wins on what reports single runs; among honest machines the same rival is right about itself."""
    errors = {}
    for world in (EVEN, WORLDS["liars at once"]):
        walk = search(Landscape(4), world, 16, RIVALS["best of N"], Random(1))
        end = next(step for step in walk if step.time > 12)
        errors[world.name] = end.true - end.reported
    assert errors["liars at once"] > 0.004 and errors["even"] < 0.004


def make_trial(seed: int, workers: int, swarm: float | None, one_thread: float = 120.0) -> Trial:
    return Trial(
        seed=seed, workers=workers, target=START - 0.03, keep_if_lower_error=-0.001, one_thread=one_thread, swarm=swarm,
        gain=0.03 if workers == 1 else None, search_gain=0.033 if workers == 1 else None,
        record_errors=[-0.0001, 0.0003], verified=5, false=0, fates={"verified": Fate(7, 1, 2)},
        fabricated_records=0, records_by_fabricators=0, runs=100, wasted=1, measurements=20,
        curve=[(0.5, START), (2.0, START - 0.03)],
    )  # fmt: skip


def make_rivals(seed: int, workers: int, time: float) -> RivalTrials:
    trial = RivalTrial(time=time, reached=1, gain=0.03, error=-0.001)
    return RivalTrials(
        world="mixed", seed=seed, workers=workers, target=START - 0.03, one_thread=120.0, rivals={"strict": trial}
    )


def test_trials_are_kept_reported_and_drawn(tmp_path: Path) -> None:
    assert not set(TUNING_SEEDS) & set(REPORTED_SEEDS)
    trials = [make_trial(seed, size, 120 / size + seed / 100) for seed in range(3) for size in (1, 16, 64)]
    rivals = [make_rivals(seed, 16, 5.0 + seed / 100) for seed in range(3)]
    for trial in trials:
        append_trial(tmp_path / "trials.jsonl", trial)
    assert read_trials(Trial, tmp_path / "trials.jsonl") == trials
    assert read_trials(Trial, tmp_path / "none.jsonl") == []
    results = Results(trials, rivals)
    speeds = next(results.list_speeds())
    assert speeds[:2] == ("mixed", "16") and speeds[2].startswith("15.98 ± ") and speeds[-2:] == ("strict", "–")
    claims = list(results.list_claims())
    assert claims[1][:3] == ("mixed", "16", "3") and "0 / 15" in claims[1]
    assert list(results.list_fates()) == [("verified", "63", "9", "6.7 to 25.4", "18")]
    goals = {goal.text: str(goal) for goal in results.list_goals()}
    assert goals["16 workers, times faster to the target"].endswith("asked at least 14: reached")
    assert goals["16 workers, times the speed of strict"].endswith("NOT shown")
    assert goals["256 workers, times faster to the target"].endswith("not measured")
    assert goals["record too good by, in 10^-4"].startswith("record too good by, in 10^-4: -1.00 ")
    assert goals["false among 63 that were ever verified, %"].endswith("NOT shown")
    draw_figure(results, tmp_path / "search.svg")
    words = [text.text for text in ElementTree.parse(tmp_path / "search.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert "swarm" in words and "strict" in words and "64 workers" in words
    (tmp_path / "page.md").write_text(f"Before.\n{BEGIN}\nstale words\n{END}\nAfter.\n")
    replace_report(tmp_path / "page.md", write_report(results))
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("Before.") and page.endswith("After.\n") and "stale words" not in page and "15.98 ± " in page


def test_a_swarm_and_rivals_with_different_targets_are_not_compared() -> None:
    trial, rivals = make_trial(0, 16, 7.0), make_rivals(0, 16, 5.0)
    assert Results([trial], [rivals]).compare_with("mixed", 16, "strict") is not None
    moved = rivals.model_copy(update={"target": rivals.target + 1e-4})
    with pytest.raises(ValueError, match="different targets"):
        Results([trial], [moved]).compare_with("mixed", 16, "strict")


def test_goals_are_compared_with_bounds() -> None:
    assert not Goal("speed", 10, Estimate(11, 2)).is_reached and Goal("speed", 10, Estimate(13, 2)).is_reached
    assert not Goal("error", 2, Estimate(1.5, 1), is_least=False).is_reached
    assert not Goal("speed", 10, Estimate(11, float("nan"))).is_reached, "one trial has no interval"
    assert bound_share(0, 299) <= 0.01 < bound_share(0, 298), "about 300 claims are needed"
    assert bound_share(2, 299) == pytest.approx(0.0209, abs=1e-4) and bound_share(3, 3) == 1
    assert 0.003 < bound_share(9, 3000) < bound_share(9, 2000) < 0.01, "and of thousands of verdicts, too"


def test_a_search_that_never_arrives_counts_as_slow_and_times_are_averaged_before_they_are_compared() -> None:
    fast, slow = make_trial(0, 16, 10.0), make_trial(1, 16, None)
    ratio = compare([120, 120], [fast.swarm_time, slow.swarm_time])
    assert slow.swarm_time == 48 and ratio is not None and ratio.mean == pytest.approx(120 / 29)


def test_simulated_agents_put_steps_together_as_a_merge_would() -> None:
    base, known = (5,) * sizes.KNOBS, {}
    for name, knob, before, after in (("new", 0, 5, 6), ("there", 1, 4, 5), ("torn", 2, 7, 8)):
        known[f"{name} before"] = tuple(before if at == knob else 5 for at in range(sizes.KNOBS))
        known[name] = tuple(after if at == knob else 5 for at in range(sizes.KNOBS))
    steps = [
        Step.model_construct(experiment_id=number, title=name, sha=name, parent_sha=f"{name} before")
        for number, name in enumerate(("new", "there", "torn"))
    ]
    empty = GrantedLease.model_fields["assignment"].default
    lease = GrantedLease.model_construct(kind=JobKind.ADOPT, assignment=empty.model_copy(update={"steps": steps}))
    drafted = draft(lease, base, known, [], Landscape(1).propose, Random(1))
    assert drafted is not None and drafted.levels == (6, *base[1:])
    assert [step.fate for step in drafted.proposal.steps] == ["done", "idle", "conflict"]
    assert read_code(write_code(drafted.levels)) == drafted.levels
