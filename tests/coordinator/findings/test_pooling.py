"""Effects taken together, and values that nobody tried. Pure."""

from math import sqrt

import pytest

from coordinator.findings.pooling import list_untested, pool, read_number
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
    assert pooled.mean == pytest.approx(0.0) and pooled.between_sd == pytest.approx(sqrt(0.0008 - 0.000001), rel=1e-3)
    assert pooled.sd > 0.015


def test_a_worked_example_of_the_method() -> None:
    # By hand: weights 100, 25, 25; fixed mean 0.5; Q = 100·0.01 + 25·0.16 + 25·0.0 = 5; C = 150 - 11250/150 = 75;
    # tau² = (5 - 2) / 75 = 0.04.
    pooled = pool([(0.4, 0.1), (0.9, 0.2), (0.5, 0.2)])
    assert pooled.between_sd == pytest.approx(0.2)
    weights = [1 / 0.05, 1 / 0.08, 1 / 0.08]
    assert pooled.mean == pytest.approx((0.4 * weights[0] + 0.9 * weights[1] + 0.5 * weights[2]) / sum(weights))


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


def test_a_gain_is_worth_a_try_on_other_hardware() -> None:
    gain = effect("gelu", -0.01, "H100", Verdict.IMPROVED)
    (told,) = list_untested([gain, effect("silu", 0.0, "RTX")], sign=1.0)
    assert (told.value, told.hardware_class) == ("gelu", "RTX") and "H100" in told.why
