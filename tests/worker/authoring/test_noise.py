"""worker/authoring/noise.py: the numbers."""

import pytest

from worker.authoring.noise import Spread


def test_the_spread_of_some_metrics() -> None:
    spread = Spread((1.0, 2.0, 4.0))
    assert (spread.mean, spread.low, spread.high) == (pytest.approx(7 / 3), 1.0, 4.0)
    assert spread.sd == pytest.approx((7 / 3) ** 0.5)  # of the sample: the sum of squares over n - 1


def test_a_single_run_has_no_spread() -> None:
    assert Spread((1.5,)).sd == 0.0
