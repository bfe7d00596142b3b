"""worker/authoring/check.py: the numbers."""

import pytest

from worker.authoring.check import Spread


def test_the_spread_of_some_metrics() -> None:
    spread = Spread((1.0, 2.0, 4.0))
    assert spread.to_json() == {"runs": 3, "mean": pytest.approx(7 / 3), "sd": spread.sd, "low": 1.0, "high": 4.0}
    assert spread.sd == pytest.approx((7 / 3) ** 0.5)  # of the sample: the sum of squares over n - 1


def test_a_single_run_has_no_spread() -> None:
    assert Spread((1.5,)).sd == 0.0
