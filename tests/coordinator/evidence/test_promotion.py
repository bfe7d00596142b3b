"""Effects on a rung and transfer ratios, by simulation; and which pairs are whole, half or given up."""

from datetime import timedelta
from random import Random

import pytest

from coordinator.evidence.confirmation import MAX_TRIES, Tries
from coordinator.evidence.promotion import (
    GIVEN_UP_AFTER,
    PAIR_WITHIN,
    PAIRS,
    Attempts,
    PromotionRun,
    RungEffect,
    estimate,
    find_ratio,
    find_student_quantile,
    is_due,
    is_within_share,
    list_attempts,
    may_begin,
)
from coordinator.evidence.statistics import Normal
from shared.contract import Contract, parse_contract
from shared.protocol import now
from shared.records import Trust
from tests.bench.bench_promotion import EFFECT, NOISE_SD, SWARMS, cover_effect, cover_ratio, draw_pairs, move_effect
from tests.support.seeds import CONTRACT

CLEAR = Normal(EFFECT, 0.001)
TRIALS = 2000


@pytest.mark.parametrize(("count", "volunteers"), SWARMS)
def test_the_interval_of_the_effect_covers_what_it_says(count: int, volunteers: int) -> None:
    """The noise on a rung is not the class's: where it is as large or smaller the interval keeps its promise, and where
    it is twice as large it nearly does."""
    for scale, least in ((0.5, 0.95), (1.0, 0.94), (2.0, 0.90)):
        assert cover_effect(count, volunteers, scale, TRIALS) >= least


def test_the_interval_of_the_ratio_covers_the_true_one() -> None:
    """Also where the budget effect is known to a third of itself."""
    for budget_sd in (0.0005, 0.002, 0.0033):
        for true in (0.0, 0.5, 1.2):
            cover = cover_ratio(true, budget_sd, TRIALS)
            assert cover.told >= 0.75 and cover.ours >= 0.93, (budget_sd, true, cover)


def test_no_ratio_is_told_where_the_budget_effect_may_be_zero() -> None:
    assert find_ratio(CLEAR, Normal(EFFECT, -EFFECT / 1.9)) is None
    assert find_ratio(CLEAR, Normal(0.0, 0.001)) is None
    assert find_ratio(CLEAR, Normal(EFFECT, -EFFECT / 2.1)) is not None
    exact = find_ratio(Normal(-0.005, 0.001), Normal(-0.01, 0.0))
    assert exact is not None and exact == pytest.approx((0.5, 0.5 - 0.196, 0.5 + 0.196), abs=1e-3)


@pytest.mark.parametrize(("freedom", "quantile"), [(3, 3.182), (4, 2.776), (7, 2.365), (11, 2.201), (30, 2.042)])
def test_students_quantile_is_that_of_tables(freedom: int, quantile: float) -> None:
    assert find_student_quantile(freedom) == pytest.approx(quantile, rel=0.01)


def test_it_holds_or_does_not_once_two_volunteers_agree_with_an_anchor_among_them() -> None:
    draw = Random(1)
    four = draw_pairs(draw, 4, 2)
    said = estimate(four, NOISE_SD)
    assert said.is_settled and said.holds(1.0) is True and said.holds(-1.0) is False, "the sign is the objective's"
    assert estimate(four[:3], NOISE_SD).holds(1.0) is None
    assert estimate(draw_pairs(draw, 4, 1), NOISE_SD).holds(1.0) is None, "one volunteer"
    strangers = [pair._replace(trust=Trust.VOUCHED) for pair in four]
    assert estimate(strangers, NOISE_SD).holds(1.0) is None
    assert estimate(strangers, NOISE_SD, vouched_verify=True).holds(1.0) is True
    assert estimate(draw_pairs(draw, 4, 2, effect=0.0), NOISE_SD).holds(1.0) is False
    assert estimate([], NOISE_SD).effect is None


@pytest.mark.parametrize("lie", [0.003, 0.01, 0.1])
def test_one_liar_of_four_moves_the_effect_by_little(lie: float) -> None:
    """By what does not stand apart: less than the noise of one run."""
    assert abs(move_effect(lie, trials=300)[0]) < NOISE_SD


# Attempts.

MOMENT = now()


def make_run(sha: str, seed: int, metric: float | None, **changes: object) -> PromotionRun:
    run = PromotionRun(1, sha, 1, 1, seed, 1.0, MOMENT, is_open=False, metric=metric, trust=Trust.ANCHOR)
    return run._replace(**changes)


def test_runs_of_one_worker_and_seed_are_a_pair() -> None:
    runs = [
        make_run("base", 1, 2.0), make_run("sha", 1, 1.5),
        make_run("sha", 2, 1.0), make_run("base", 2, None),
        make_run("sha", 3, 1.0), make_run("base", 3, 3.0, worker_id=2, volunteer_id=2),
    ]  # fmt: skip
    found = list_attempts(runs, "sha", MOMENT)
    assert [pair.difference for pair in found.pairs] == [-0.5], "neither a failed run nor another worker's makes one"
    assert {(half.measured, half.worker_id) for half in found.halves} == {("sha", 1), ("base", 2)}
    assert found.of_all == Tries(4, 2, 1)
    assert found.of_volunteers == {1: Tries(3, 1, 1), 2: Tries(1, 1)}


@pytest.mark.parametrize(
    ("first", "is_half"),
    [
        (make_run("base", 1, 2.0), True),
        (make_run("base", 1, None, is_open=True), True),
        (make_run("base", 1, None), False),
        (make_run("base", 1, 2.0, issued_at=MOMENT - PAIR_WITHIN - timedelta(seconds=1)), False),
    ],
    ids=["done", "under way", "failed", "long ago"],
)
def test_a_second_run_follows_a_first_that_came_to_something(first: PromotionRun, is_half: bool) -> None:
    assert bool(list_attempts([first], "sha", MOMENT).halves) == is_half


def test_a_promotion_is_given_up_where_nothing_will_settle_it() -> None:
    few, many = RungEffect(CLEAR, 1, 1, 0, is_settled=False), RungEffect(CLEAR, PAIRS, 1, 0, is_settled=False)
    after = MOMENT + GIVEN_UP_AFTER + timedelta(seconds=1)
    at_work, idle = Attempts([], [], Tries(2, 1), {}, MOMENT), Attempts([], [], Tries(2, 0), {}, MOMENT)
    assert not at_work.is_given_up(few, after) and not idle.is_given_up(few, MOMENT)
    assert idle.is_given_up(few, after) and idle.is_given_up(many, MOMENT)
    assert Attempts([], [], Tries(MAX_TRIES, 0), {}, MOMENT).is_given_up(few, MOMENT)


def test_each_volunteer_makes_its_share_of_the_pairs() -> None:
    nothing, everybody = estimate([], NOISE_SD), {1, 2, 3, 4}
    free = Attempts([], [], Tries(), {}, None)
    assert may_begin(nothing, free, everybody, 1, is_anchor=True)
    assert not may_begin(nothing, free, everybody, 9, is_anchor=True), "a stranger"
    tried = Attempts([], [], Tries(2, 0), {1: Tries(2, 0)}, MOMENT)
    assert not may_begin(nothing, tried, everybody, 1, is_anchor=True)
    assert may_begin(nothing, tried, everybody, 2, is_anchor=False)
    four = draw_pairs(Random(1), 4, 4)
    settled = Attempts(four, [], Tries(4, 0, 4), {number: Tries(1, 0, 1) for number in range(4)}, MOMENT)
    assert not may_begin(estimate(four, NOISE_SD), settled, {*range(4), 9}, 9, is_anchor=True)


def read_contract(more: str) -> Contract:
    return parse_contract(CONTRACT.format(name="tiny") + more)


def test_runs_on_rungs_take_their_share_of_the_time_and_no_more() -> None:
    contract = read_contract('[[rungs]]\nname = "long"\ntraining_seconds = 80\n')
    (rung,) = contract.rungs
    assert contract.jobs.promoting == pytest.approx(0.5 / 8.5)
    assert not is_within_share(contract, rung, 135, {}), "a pair takes as long as eight runs"
    assert is_within_share(contract, rung, 136, {})
    assert not is_within_share(contract, rung, 136, {"long": 2})
    given = {"long": 0}
    for jobs in range(5000):
        if is_within_share(contract, rung, jobs, given):
            given["long"] += 2
    assert 4 * given["long"] / (5000 + 4 * given["long"]) == pytest.approx(contract.jobs.promoting, abs=0.005)


def test_a_record_is_promoted_for_five_of_the_smallest_effects_that_matter() -> None:
    assert is_due(0.0101, 0.002) and not is_due(0.01, 0.002)
