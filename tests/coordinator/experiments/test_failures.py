"""In which way an experiment did not work. Pure."""

import pytest

from coordinator.experiments.failures import SLOW_BELOW, describe_failure
from shared.experiments import Verdict
from shared.findings import FailureClass


@pytest.mark.parametrize(
    ("stored", "verdict", "pace", "failure"),
    [
        ("diverged", None, None, FailureClass.DIVERGED),
        ("hopeless", Verdict.WORSE, 0.5, FailureClass.HOPELESS),
        (None, Verdict.NO_CHANGE, SLOW_BELOW - 0.01, FailureClass.SLOWER),
        (None, Verdict.WORSE, SLOW_BELOW - 0.01, FailureClass.SLOWER),
        (None, Verdict.NO_CHANGE, SLOW_BELOW, FailureClass.NO_EFFECT),
        (None, Verdict.WORSE, None, FailureClass.WORSE),
        (None, Verdict.IMPROVED, 0.5, None),
        (None, Verdict.UNRESOLVED, 0.5, None),
        (None, None, 0.5, None),
    ],
)
def test_what_a_run_showed_comes_first_and_then_its_verdict_and_pace(
    stored: str | None, verdict: Verdict | None, pace: float | None, failure: FailureClass | None
) -> None:
    assert describe_failure(stored, verdict, pace) is failure
