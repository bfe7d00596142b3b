"""What later evidence does to a claim. Pure."""

from typing import Any

import pytest

from coordinator.findings.papers import Rival, Written, judge, tell_rivals
from shared.experiments import Dispute, Posterior, Standing, Verdict
from shared.findings import Trend
from shared.protocol import now

GAIN = Written(-0.02, 0.005, Verdict.IMPROVED)


def posterior(effect: float, sd: float = 0.005, **changes: Any) -> Posterior:
    fields = {"metric_mean": 3.2, "metric_sd": 0.004, "effect_mean": effect, "effect_sd": sd, "runs": 3}
    return Posterior.model_validate(fields | {"verdict": Verdict.IMPROVED} | changes)


@pytest.mark.parametrize(
    ("later", "trend"),
    [
        (posterior(-0.021), Trend.AS_WRITTEN),
        (posterior(-0.010), Trend.WEAKENED),
        (posterior(-0.030), Trend.STRENGTHENED),
        (posterior(-0.020, sd=0.002), Trend.STRENGTHENED),
        (posterior(-0.001, verdict=Verdict.NO_CHANGE), Trend.OVERTURNED),
        (posterior(-0.019, verdict=Verdict.UNRESOLVED), Trend.AS_WRITTEN),
        (posterior(-0.020, standing=Standing.SUSPECT), Trend.WEAKENED),
        (posterior(-0.020, dispute=Dispute.CONTESTED), Trend.WEAKENED),
        (posterior(-0.020, dispute=Dispute.REFUTED), Trend.OVERTURNED),
        (None, Trend.AS_WRITTEN),
    ],
)
def test_how_evidence_stands_to_what_it_was(later: Posterior | None, trend: Trend) -> None:
    assert judge(GAIN, later, sign=1.0) is trend


def test_a_metric_that_is_to_rise_is_read_the_other_way_round() -> None:
    assert judge(GAIN, posterior(0.030), sign=-1.0) is Trend.STRENGTHENED
    assert judge(GAIN, posterior(0.010), sign=-1.0) is Trend.WEAKENED


def rival(effect: float, verdict: Verdict, *, is_ablation: bool) -> Rival:
    return Rival(31, is_ablation, effect, 0.004, verdict, now())


@pytest.mark.parametrize(
    ("one", "trend"),
    [
        (rival(0.02, Verdict.WORSE, is_ablation=True), Trend.STRENGTHENED),
        (rival(0.0, Verdict.NO_CHANGE, is_ablation=True), Trend.WEAKENED),
        (rival(-0.02, Verdict.IMPROVED, is_ablation=True), Trend.WEAKENED),
        (rival(-0.02, Verdict.IMPROVED, is_ablation=False), Trend.STRENGTHENED),
        (rival(0.0, Verdict.NO_CHANGE, is_ablation=False), Trend.WEAKENED),
    ],
)
def test_taking_the_step_out_again_speaks_for_or_against_it(one: Rival, trend: Trend) -> None:
    (change,) = tell_rivals(GAIN, [one], sign=1.0)
    assert (change.trend, change.experiment_id) == (trend, 31)
    assert change.words.startswith(trend.capitalize())


def test_what_is_not_concluded_says_nothing() -> None:
    assert list(tell_rivals(GAIN, [rival(0.0, Verdict.UNRESOLVED, is_ablation=True)], sign=1.0)) == []
