"""Effects taken together, and values that nobody tried. Pure."""

from math import sqrt
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.findings.pooling import Shift, estimate_levels, find_old, list_untested, pool, read_number
from shared.experiments import AxisDirection, Standing, Verdict
from shared.topics import TopicEffect


def effect(value: str, mean: float, hardware_class: str = "H100", verdict: Verdict = Verdict.NO_CHANGE) -> TopicEffect:
    return TopicEffect(
        experiment_id=7, finding_id=7, title="t", direction=AxisDirection.UP, value=value,
        hardware_class=hardware_class, mean=mean, sd=0.001, runs=1, verdict=verdict, standing=Standing.PROVISIONAL,
    )  # fmt: skip


def test_effects_that_agree_are_averaged_by_their_precision() -> None:
    pooled = pool([(-0.01, 0.001), (-0.01, 0.001)])
    assert pooled.mean == pytest.approx(-0.01) and pooled.sd == pytest.approx(0.001 / sqrt(2))
    assert pooled.between_sd == 0
    assert pool([(0.0, 0.001), (-0.002, 0.1)]).mean == pytest.approx(0.0, abs=1e-6)


def test_effects_that_differ_more_than_their_noise_leave_the_mean_uncertain() -> None:
    pooled = pool([(-0.02, 0.001), (0.02, 0.001)])
    # The deviations are 0.02 each, and of two values the median deviation is 1 / (1.4826 * 1.196) of the sd.
    assert pooled.between_sd == pytest.approx(sqrt((0.02 * 1.4826 * 1.196) ** 2 - 0.001**2))
    assert pooled.mean == pytest.approx(0.0) and pooled.sd > 0.015 and pooled.outliers == 0


def test_one_diverged_run_says_nothing_about_the_others() -> None:
    for count in (2, 3, 8):
        sound = [(-0.01 + 0.001 * (number % 3), 0.003) for number in range(count)]
        with_diverged = pool([*sound, (4.7, 0.003)])
        assert with_diverged.outliers == 1
        assert with_diverged.mean == pytest.approx(pool(sound).mean, abs=0.0005)
        assert with_diverged.sd < 2 * pool(sound).sd and with_diverged.between_sd < 0.003


def test_two_true_effects_are_not_made_one() -> None:
    pooled = pool([(-0.02, 0.001)] * 3 + [(0.02, 0.001)] * 3)
    assert pooled.between_sd > 0.015 and abs(pooled.mean) < 0.02 and pooled.outliers == 0


effects_drawn = st.lists(st.tuples(st.floats(-0.05, 0.05), st.floats(0.0005, 0.02)), min_size=2, max_size=12)


@given(effects_drawn, st.randoms(), st.floats(-1, 1), st.floats(0.01, 100))
def test_neither_order_nor_unit_matters(
    effects: list[tuple[float, float]], random: Random, shift: float, scale: float
) -> None:
    pooled = pool(effects)
    low, high = min(mean for mean, _ in effects), max(mean for mean, _ in effects)
    assert low - 1e-9 <= pooled.mean <= high + 1e-9 and pooled.sd > 0 and pooled.between_sd >= 0
    moved = [(scale * (mean + shift), scale * sd) for mean, sd in effects]
    random.shuffle(moved)
    again = pool(moved)
    assert again.mean == pytest.approx(scale * (pooled.mean + shift), abs=1e-5 * scale)
    assert again.between_sd == pytest.approx(scale * pooled.between_sd, rel=1e-4, abs=1e-6 * scale)


@given(effects_drawn.filter(lambda effects: len(effects) >= 3), st.floats(10, 1e6), st.booleans())
def test_however_far_one_effect_is_the_mean_stays_among_the_others(
    effects: list[tuple[float, float]], far: float, is_loss: bool
) -> None:
    others = [(mean, 0.005) for mean, _ in effects]
    pooled = pool([*others, (far if is_loss else -far, 0.005)])
    assert min(mean for mean, _ in others) - 1e-9 <= pooled.mean <= max(mean for mean, _ in others) + 1e-9
    assert pooled.outliers >= 1


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    random, pools = Random(3), 400
    for between in (0.0, 0.01):
        drawn = ([random.uniform(0.002, 0.008) for _ in range(20)] for _ in range(pools))
        made = [pool([(random.gauss(random.gauss(0, between), sd), sd) for sd in sds]) for sds in drawn]
        assert sum(abs(one.mean) < 2 * one.sd for one in made) / pools > 0.9
        assert (sum(one.between_sd**2 for one in made) / pools) ** 0.5 == pytest.approx(between, abs=0.003)


@pytest.mark.parametrize(
    ("value", "number"), [("0.4", 0.4), ("3e-4", 3e-4), ("64 heads", 64), ("off", None), ("1, 2", None)]
)
def test_a_value_is_a_number_or_words(value: str, number: float | None) -> None:
    assert read_number(value) == number


def test_beyond_the_best_and_beside_it_is_room() -> None:
    told = list(list_untested([effect("0.1", 0.0), effect("0.2", -0.01), effect("0.8", -0.005)], sign=1.0))
    assert [one.value for one in told] == ["0.141", "0.4"] and "between 0.2 and 0.8" in told[1].why
    told = list(list_untested([effect("0.1", 0.0), effect("0.2", -0.01)], sign=1.0))
    assert [one.value for one in told] == ["0.4", "0.141"] and "highest" in told[0].why
    told = list(list_untested([effect("0.1", 0.0), effect("0.2", -0.01)], sign=-1.0))
    assert told[0].value == "0.05" and "lowest" in told[0].why


def test_steps_from_value_to_value_tell_the_level_at_each() -> None:
    """A later step that gains little from a better parent is further down than an early one that gained much."""
    chain = [Shift(0.04, 0.05, -0.009, 0.001), Shift(0.05, 0.06, -0.006, 0.001), Shift(0.06, 0.08, -0.001, 0.001)]
    back = [Shift(0.08, 0.09, 0.007, 0.001), Shift(0.04, 0.06, -0.015, 0.001)]
    levels = estimate_levels([*chain, *back])
    assert [(one.value, round(one.mean, 4)) for one in levels] == [
        (0.04, 0.0), (0.05, -0.009), (0.06, -0.015), (0.08, -0.016), (0.09, -0.009),
    ]  # fmt: skip
    sds = {one.value: one.sd for one in levels}
    assert sds[0.04] == 0.0 and 0 < sds[0.06] < sds[0.08] < sds[0.09], "the reference is exact; each step adds noise"


def test_levels_of_steps_that_contradict_each_other_are_uncertain_and_strays_are_left_out() -> None:
    agree = estimate_levels([Shift(1, 2, -0.01, 0.001), Shift(1, 2, -0.01, 0.001)])
    differ = estimate_levels([Shift(1, 2, -0.03, 0.001), Shift(1, 2, 0.01, 0.001), Shift(7, 8, 0.5, 0.001)])
    assert [one.value for one in agree] == [one.value for one in differ] == [1, 2]
    assert differ[1].sd > 10 * agree[1].sd
    assert estimate_levels([]) == [] and estimate_levels([Shift(3, 3, 0.1, 0.1)]) == []


@pytest.mark.parametrize(
    ("title", "value", "old"),
    [
        ("WIDTH 64 -> 128", "128", "64"), ("wd 0.2->0.4 \N{EM DASH} worse", "0.4", "0.2"),
        ("depth 8 to 9, aspect 64 to 57", "57", "64"), ("RoPE base 10K\N{RIGHTWARDS ARROW}200K", "200K", "10K"),
        ("a wider model", "128", ""), ("raise BETA2 to 0.99", "0.99", ""), ("swap gelu -> silu", "silu", "gelu"),
        ("LR 1e-3 -> 3e-3, BETA 0.9 -> 0.95", "0.95", "0.9"),
    ],
)  # fmt: skip
def test_a_title_says_where_a_change_began(title: str, value: str, old: str) -> None:
    assert find_old(title, value) == old


def test_a_proposed_value_fits_the_axis() -> None:
    def propose(*values: str) -> list[str]:
        return [one.value for one in list_untested([effect(v, -n / 100) for n, v in enumerate(values)], sign=1.0)]

    assert propose("0.8", "0.9") == ["0.95"], "a fraction stays below 1"
    assert propose("3", "6") == ["12", "4"], "whole numbers stay whole"
    assert propose("262K", "524288") == ["1050000", "371000"]
    assert propose("512", "1024") == ["2048", "724"], "a power of two stays one"


def test_a_value_that_failed_was_tried() -> None:
    steps = [effect("512", 0.0), effect("1024", -0.01)]
    told = list(list_untested(steps, 1.0, ["2048", "off", "512"]))
    assert [one.value for one in told] == ["724", "1450"] and "between 1024 and 2048" in told[1].why
    assert list(list_untested([], 1.0, ["2048", "4096"])) == []


def test_a_gain_is_worth_a_try_on_other_hardware() -> None:
    gain = effect("gelu", -0.01, "H100", Verdict.IMPROVED)
    (told,) = list_untested([gain, effect("silu", 0.0, "RTX")], sign=1.0)
    assert (told.value, told.hardware_class) == ("gelu", "RTX") and "H100" in told.why


def cover_of_siblings(between: float, *, is_shared: bool) -> tuple[float, float]:
    """Share of 95 % intervals that hold the true mean effect, 0, of 20 siblings and of one's level at a value, where
    all were measured once and so was their parent, with the same noise."""
    random, worlds, noise = Random(7), 300, 0.003
    parent = ("parent", noise)
    pools = levels = 0
    for _ in range(worlds):
        above = random.gauss(0, noise)
        told = [random.gauss(random.gauss(0, between), noise) - above for _ in range(20)]
        sd = noise * sqrt(2)
        pooled = pool([(one, sd) for one in told], [parent] * 20 if is_shared else ())
        pools += abs(pooled.mean) < 1.96 * pooled.sd
        (_, level) = estimate_levels([Shift(1, 2, one, sd, parent if is_shared else None) for one in told])
        levels += abs(level.mean) < 1.96 * level.sd
    return pools / worlds, levels / worlds


def test_siblings_of_one_parent_share_its_error() -> None:
    """Before it was counted, intervals of 95 % held the truth in less than half of the worlds."""
    for between in (0.0, 0.003):
        of_pools, of_levels = cover_of_siblings(between, is_shared=False)
        assert of_pools < 0.6 and of_levels < 0.6
        of_pools, of_levels = cover_of_siblings(between, is_shared=True)
        assert of_pools > 0.92 and of_levels > 0.92


def test_an_effect_from_another_parent_counts_for_more_than_one_of_many_siblings() -> None:
    siblings = [(0.0, sqrt(2))] * 20
    pooled = pool([*siblings, (0.1, sqrt(2))], [("a", 1.0)] * 20 + [("b", 1.0)])
    # By generalised least squares: the siblings' mean has the variance 1 + 1/20, the other one 2.
    assert pooled.mean == pytest.approx(0.05 / (1 / 2 + 1 / 1.05), rel=1e-3) and pooled.outliers == 0
    assert pooled.sd == pytest.approx(sqrt(1 / (1 / 2 + 1 / 1.05)), rel=1e-3)
    assert pool([*siblings, (1.0, sqrt(2))], [(at, 1.0) for at in range(21)]) == pool([*siblings, (1.0, sqrt(2))])
