"""Priors of effects: what experiments teach, how little a few volunteers move it, and what has no part in it."""

from random import Random
from unittest.mock import patch

import pytest

from coordinator.evidence import effects
from coordinator.evidence.effects import MAX_MEAN, MAX_SPREAD, MeasuredCommit, Priors, learn
from coordinator.evidence.statistics import EXACT, EffectPrior, Measurement, Normal, begin, extend
from shared.experiments import JobKind

NOISE_SD, EFFECT_SD = 0.0007, 0.002
LIE = -0.02


def draw_commits(
    mean: float, sd: float, *, count: int = 126, liars: int = 0, volunteers: int = 10, seed: int = 1,
    wide: float = 0.0, haste: int = 1,
) -> list[MeasuredCommit]:  # fmt: skip
    """A line of experiments, each on the best so far as one run shows it. Liars say LIE, `haste` times as often."""
    draw = Random(seed)
    seed_runs = [Measurement(1 + draw.gauss(0, NOISE_SD), worker, worker, False, EXACT) for worker in range(4)]
    found = [MeasuredCommit("root", None, 1, seed_runs)]
    best, truths = "root", {"root": 1.0}
    looks = {"root": 1.0}
    turns = [worker for worker in range(volunteers) for _ in range(haste if worker < liars else 1)]
    for number in range(count):
        who, sha = turns[number % len(turns)], str(number)
        scale = 5 if draw.random() < wide else 1
        truths[sha] = truths[best] + draw.gauss(mean, scale * sd)
        value = truths[sha] + draw.gauss(0, NOISE_SD)
        if who < liars:
            value += LIE
        kind = JobKind.TUNE if number % 2 else JobKind.IMPROVE
        found.append(MeasuredCommit(sha, best, 1, [Measurement(value, who, who, True, EXACT, kind=kind)]))
        looks[sha] = value
        if who >= liars and value < looks[best]:
            best = sha
    return found


def learn_from(commits: list[MeasuredCommit]) -> Priors:
    return learn(commits, NOISE_SD, EFFECT_SD)


def test_without_effects_the_contract_holds() -> None:
    assert learn_from(draw_commits(0, EFFECT_SD, count=0)) == {None: EffectPrior(0.0, EFFECT_SD)}
    few = learn_from(draw_commits(0.002, 0.0002, count=3))[None]
    assert abs(few.mean) < 0.0006 and few.sd > 0.8 * EFFECT_SD, "three effects say little"


def test_a_session_in_which_most_steps_harm_teaches_so() -> None:
    learnt = [learn_from(draw_commits(0.0009, 0.0007, seed=seed))[None] for seed in range(8)]
    means, sds = [one.mean for one in learnt], [one.sd for one in learnt]
    assert 0.0006 < sum(means) / 8 < 0.0014, "the best of single runs was lucky, and posteriors know most of that"
    assert sum(sds) / 8 == pytest.approx(0.0009, abs=0.0003), "the contract said 0.002"
    assert all((one.effects, one.volunteers) == (126, 10) for one in learnt)


def test_one_volunteer_has_one_vote_however_much_it_measures() -> None:
    """One of ten, with as many effects as all others together, who all say that they gained ten sd."""
    calm = learn_from(draw_commits(0.0, EFFECT_SD, count=180))[None]
    hasty = draw_commits(0.0, EFFECT_SD, count=180, liars=1, haste=11)
    with patch.object(effects, "VOTE", 1e9):
        outvoted = learn_from(hasty)[None]
    defended = learn_from(hasty)[None]
    assert abs(outvoted.mean - calm.mean) > 0.7 * EFFECT_SD, "where each effect counts alike it wins"
    assert abs(defended.mean - calm.mean) < 0.3 * EFFECT_SD
    assert defended.sd < 1.4 * calm.sd


@pytest.mark.parametrize("seed", range(3))
def test_three_liars_of_ten_move_a_prior_by_a_bounded_amount(seed: int) -> None:
    calm = learn_from(draw_commits(0.0, EFFECT_SD, seed=seed))[None]
    lied = learn_from(draw_commits(0.0, EFFECT_SD, liars=3, seed=seed))[None]
    assert abs(lied.mean - calm.mean) < 0.8 * EFFECT_SD and lied.sd < 2 * calm.sd


def test_what_is_learnt_stays_within_bounds_even_if_all_lie() -> None:
    for prior in learn_from(draw_commits(0.0, 0.5, liars=10)).values():
        assert abs(prior.mean) <= MAX_MEAN * EFFECT_SD and prior.sd <= MAX_SPREAD * EFFECT_SD


def test_rare_large_effects_are_expected_without_widening_the_rest() -> None:
    heavy = learn_from(draw_commits(0.0, 0.001, wide=0.15, count=400))[None]
    normal = learn_from(draw_commits(0.0, 0.001, count=400))[None]
    assert heavy.tail_share > 0.06 > normal.tail_share
    assert heavy.sd < 1.6 * normal.sd
    above, seen = begin(Normal(1.0, 0.0003)), Normal(0.992, NOISE_SD)
    shrunk = [1.0 - extend(above, 1, seen, prior).mean for prior in (heavy, EffectPrior(heavy.mean, heavy.sd))]
    assert shrunk[0] > shrunk[1], "a large gain is believed sooner where large gains were seen"


def test_each_kind_of_job_has_its_own_prior() -> None:
    commits = draw_commits(0.0, 0.0005, count=300)
    moved = [
        commit._replace(runs=[run._replace(value=run.value + 0.002) for run in commit.runs])
        if commit.runs[0].kind is JobKind.TUNE and commit.sha not in {one.parent_sha for one in commits}
        else commit
        for commit in commits
    ]
    learnt = learn_from(moved)
    assert learnt[JobKind.TUNE].mean > learnt[None].mean > learnt[JobKind.IMPROVE].mean
