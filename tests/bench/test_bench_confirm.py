"""The published number of a record and the ladder, on the coordinator's pure functions."""

from statistics import fmean
from typing import NamedTuple

import pytest

from tests.bench import bench_confirm
from tests.bench.bench_confirm import NOISE_SD, Error, probe, publish_all


class Means(NamedTuple):
    before: float
    now: float
    plain: float


def average(worlds: int, lie: float | None = None) -> Means:
    every: list[tuple[Error, Error, Error]] = list(publish_all(worlds, lie))
    return Means(*(fmean(one[at].error for one in every) for at in range(3)))


@pytest.fixture(autouse=True)
def few_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_confirm, "JOBS", 160)
    monkeypatch.setattr(bench_confirm, "PROBES", 1000)


def test_in_a_plateau_the_published_number_is_not_too_good() -> None:
    """The standard error of a mean over 40 worlds is below a tenth of the noise."""
    errors = average(40)
    assert errors.before < -0.3 * NOISE_SD
    assert abs(errors.now) < 0.25 * NOISE_SD


def test_one_confirmer_who_lies_does_not_decide_the_number() -> None:
    errors = average(20, -0.01)
    assert errors.plain < -3 * NOISE_SD and abs(errors.now) < NOISE_SD


def test_probing_the_ladder_lets_nothing_out_and_true_gains_are_let_out() -> None:
    shown = [probe(seed, "none")[0] for seed in range(10)]
    ours = [probe(seed, "ours")[0] for seed in range(10)]
    assert fmean(shown) > 3, "each number that looks better is shown, and the best of them is luck"
    assert sum(ours) <= 1
    assert all(probe(seed, "ours", 0.003)[0] >= 19 for seed in range(10))
