"""The bench of machines, small: the present model is the better one where gains differ, and no worse where not."""

from statistics import fmean

from tests.bench.bench_machines import GAIN_SD, Model, ModelBefore, Outcome, draw_swarm, judge


def judge_all(model: Model, gain_sd: float, *, is_paced: bool) -> list[Outcome]:
    return [judge(draw_swarm(seed, 12, 0, 40, gain_sd, is_paced=is_paced), model) for seed in range(3)]


def test_machines_that_gain_differently_make_no_noise() -> None:
    before, now = (judge_all(model, GAIN_SD, is_paced=False) for model in (ModelBefore(), Model()))
    assert fmean(one.noise for one in before) > 1.5 > 1.2 > fmean(one.noise for one in now) > 0.8
    assert sum(one.doubted for one in now) <= 2 < sum(one.doubted for one in before)


def test_intervals_hold_their_share_of_the_truth() -> None:
    for gain_sd, is_paced in ((0.0, False), (GAIN_SD, False), (GAIN_SD, True)):
        outcomes = judge_all(Model(), gain_sd, is_paced=is_paced)
        assert 0.58 < fmean(hit for one in outcomes for hit in one.effects) < 0.8
