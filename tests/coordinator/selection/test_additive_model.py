"""The additive model finds planted effects, and is not misled by machines, outliers and values it knows nothing of."""

from math import log2
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.selection.additive_model import MOST_VALUES, AdditiveModel, Prior, Row, measure_distances
from shared.experiments import Setting

PRIOR = Prior(noise_sd=0.001, effect_sd=0.002, offset_sd=0.01)
REFERENCE: dict[str, Setting] = {"WIDTH": 64, "RATE": 0.01, "BIAS": False, "#7": False}
EFFECTS: dict[tuple[str, Setting], float] = {
    ("WIDTH", 96): -0.003, ("WIDTH", 128): -0.005, ("WIDTH", 32): 0.004, ("RATE", 0.02): -0.002, ("RATE", 0.005): 0.002,
    ("BIAS", True): 0.003, ("#7", True): -0.004,
}  # fmt: skip
VALUES: dict[str, list[Setting]] = {"WIDTH": [32, 96, 128], "RATE": [0.005, 0.02], "BIAS": [True], "#7": [True]}


def make_rows(count: int, draw: Random, outliers: int = 0) -> list[Row]:
    """Runs of random settings on eight machines of two classes, which measure 0.05 apart."""
    offsets = [draw.gauss(0, 0.01) for _ in range(8)]
    rows = []
    for number in range(count):
        settings = {axis: draw.choice(known) for axis, known in VALUES.items() if draw.random() < 0.5}
        worker = number % 8
        shift = offsets[worker] + 0.05 * (worker % 2)
        metric = 1 + shift + sum(EFFECTS[item] for item in settings.items()) + draw.gauss(0, 0.001)
        rows.append(Row(settings, worker, f"class {worker % 2}", metric + 3.0 * (number < outliers)))
    return rows


@pytest.mark.parametrize("outliers", [0, 6])
def test_planted_effects_are_found_whoever_measured(outliers: int) -> None:
    model = AdditiveModel(make_rows(160, Random(1), outliers), REFERENCE, PRIOR)
    for (axis, value), effect in EFFECTS.items():
        assert model.predict({axis: value}) == pytest.approx(effect, abs=0.0011), (axis, value)
    both: dict[str, Setting] = {"WIDTH": 128, "#7": True}
    assert model.predict(both) == pytest.approx(-0.009, abs=0.002) and model.predict({"WIDTH": 77}) == 0.0
    rng = np.random.default_rng(1)
    drawn = [model.draw(rng) for _ in range(20)]
    assert sum(one == {"WIDTH": 128, "RATE": 0.02, "#7": True} for one in drawn) >= 12


def test_little_evidence_is_drawn_widely() -> None:
    model = AdditiveModel(make_rows(4, Random(2)), REFERENCE, PRIOR)
    rng = np.random.default_rng(1)
    assert len({tuple(sorted(model.draw(rng).items(), key=repr)) for _ in range(40)}) > 5


def test_values_near_each_other_are_expected_to_have_like_effects() -> None:
    """A value that was measured once lies between two that were measured often."""
    rows = [Row({}, 0, "a", 0.0)] * 10 + [Row({"RATE": 0.02}, 0, "a", -0.004)] * 10
    rows += [Row({"RATE": 0.04}, 0, "a", -0.008)] * 10
    alone = AdditiveModel([*rows, Row({"RATE": 0.03}, 1, "a", 0.0)], REFERENCE, PRIOR)
    named = [row._replace(settings={"RATE": str(row.settings["RATE"])} if row.settings else {}) for row in rows]
    unlike = AdditiveModel([*named, Row({"RATE": "0.03"}, 1, "a", 0.0)], REFERENCE, PRIOR)
    assert alone.predict({"RATE": 0.03}) < -0.003 < unlike.predict({"RATE": "0.03"})


def test_an_axis_with_a_value_for_each_run_is_learnt_as_a_whole() -> None:
    """As a search draws learning rates: 300 values, each measured once, best at twice the reference."""
    draw = Random(3)
    rows = []
    for _ in range(300):
        rate = 0.01 * 2 ** draw.uniform(-2, 2)
        rows.append(Row({"RATE": rate}, 0, "a", 0.002 * (log2(rate / 0.01) - 1) ** 2 + draw.gauss(0, 0.001)))
    model = AdditiveModel(rows, REFERENCE, PRIOR)
    assert len(model.values["RATE"]) <= MOST_VALUES
    found = [float(model.draw(np.random.default_rng(seed))["RATE"]) for seed in range(20)]
    assert sum(0.014 < rate < 0.028 for rate in found) >= 15
    rates = [row.settings["RATE"] for row in rows]
    known = min(rates, key=lambda rate: abs(float(rate) - 0.02))
    near = min((rate for rate in rates if rate != known), key=lambda rate: abs(float(rate) - float(known)))
    assert model.are_alike("RATE", known, near) and not model.are_alike("RATE", known, min(rates))
    assert not model.are_alike("RATE", known, None) and not model.are_alike("RATE", "unknown", "other")


NUMBERS = st.one_of(st.integers(-(2**60), 2**60), st.floats(-1e12, 1e12), st.booleans(), st.text(max_size=5))


@given(st.lists(st.tuples(NUMBERS, st.floats(-1e9, 1e9)), min_size=1, max_size=30), NUMBERS)
def test_whatever_volunteers_name_as_settings_gives_finite_numbers(
    told: list[tuple[Setting, float]], reference: Setting
) -> None:
    rows = [Row({"A": value} if value != reference else {}, 1, "a", metric) for value, metric in told]
    model = AdditiveModel(rows, {"A": reference}, PRIOR)
    assert all(np.isfinite(model.predict(row.settings)) for row in rows)
    assert model.draw(np.random.default_rng(1)).keys() <= {"A"}


def test_distances() -> None:
    assert measure_distances([1, 2, 4], 3) == pytest.approx([-2, -1, 1])
    assert measure_distances([0.001, 0.1], 0.01) == pytest.approx([-1, 1]), "wide ranges are logarithmic"
    assert measure_distances([True], False) is None and measure_distances(["a"], "b") is None
    assert measure_distances([1.0], None) is None
