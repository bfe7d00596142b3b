"""worker/runs/early_stop.py, on curves."""

import math
from collections.abc import Callable
from random import Random

import pytest

from shared.runs import CurvePoint, RunOutcome
from tests.support.tiny_project import seed_files
from tests.worker.runs.conftest import Measure
from worker.runs.early_stop import EarlyStop

BUDGET = 300.0


def curve(loss_at: Callable[[float], float], points: int = 600, noise: float = 0.05, seed: int = 1) -> list[CurvePoint]:
    draw = Random(seed)
    shares = [(number + 1) / points for number in range(points)]
    return [
        CurvePoint(step=number, seconds=share * BUDGET, loss=loss_at(share) + draw.gauss(0, noise))
        for number, share in enumerate(shares)
    ]


def learning(share: float) -> float:
    """A loss as a transformer's: fast, then slow, and faster again while the learning rate goes down."""
    return 2.5 + 4.0 * math.exp(-20 * share) + 1.0 * (1 - share)


PARENT = curve(learning, points=50, noise=0.01)


def follow(child: list[CurvePoint], parent: list[CurvePoint] = PARENT) -> EarlyStop:
    outlook = EarlyStop(parent, BUDGET)
    for point in child:
        outlook.add(point)
    return outlook


@pytest.mark.parametrize(
    "child",
    [
        learning,
        lambda s: learning(s) + 0.2,  # worse, by far more than any threshold on effects
        lambda s: learning(s / 1.3),  # slow, but not by half
        lambda s: learning(max(0.0, s - 0.2)),  # a late start
        lambda s: learning(s) + (0.5 if s < 0.42 else 0.0),  # a long warm-up that ends in time
        lambda s: 6.5 if 0.5 < s < 0.56 else learning(s),  # a spike from which it recovers
    ],
)
def test_a_run_with_hope_goes_on(child: Callable[[float], float]) -> None:
    assert follow(curve(child)).hopeless_at is None


def test_a_run_that_learns_nothing_is_stopped_at_the_first_occasion() -> None:
    outlook = follow(curve(lambda s: 6.4))
    assert outlook.hopeless_at == pytest.approx(0.5, abs=0.01)
    assert outlook.reason.startswith("hopeless: at 50% of the budget its loss 6.4")


def test_a_run_that_breaks_is_stopped_a_tenth_of_the_budget_later() -> None:
    outlook = follow(curve(lambda s: learning(s) if s < 0.6 else 6.4))
    assert outlook.hopeless_at is not None and 0.7 < outlook.hopeless_at < 0.75


@pytest.mark.parametrize("scale", [1 / math.log(2), 128.0, 0.5])
def test_losses_of_another_scale_are_not_compared(scale: float) -> None:
    assert follow(curve(lambda s: scale * 6.4)).hopeless_at is None


def test_without_a_parents_curve_nothing_is_hopeless() -> None:
    assert follow(curve(lambda s: 6.4), []).hopeless_at is None
    late = [point for point in PARENT if point.seconds > 0.6 * BUDGET]
    assert follow(curve(lambda s: 6.4), late).hopeless_at is None


def test_says_what_the_parent_had_at_a_share() -> None:
    outlook = EarlyStop(PARENT, BUDGET)
    assert outlook.parent_loss(0.5) == pytest.approx(learning(0.45), abs=0.05)
    assert outlook.parent_loss(0.0) is None


def test_a_hopeless_run_ends_early_unless_it_is_in_the_sample(measure_files: Measure) -> None:
    """A parent that was far better in no time; the budget is long enough for any machine to log losses by half time."""
    parent = [CurvePoint(step=n, seconds=n / 10, loss=5.7 if n == 0 else 0.5) for n in range(50)]
    budget = {"training_seconds": 2.0}
    report = measure_files(seed_files(), budget=budget, parent_curve=parent)
    assert (report.outcome, report.metric) == (RunOutcome.STOPPED_EARLY, None)
    assert report.hopeless_at is not None and 0.5 <= report.hopeless_at < 1
    assert report.reason.startswith("hopeless: at ") and report.scored_bytes == 0
    sampled = measure_files(seed_files(), budget=budget, parent_curve=parent, run_to_end=True)
    assert sampled.outcome is RunOutcome.OK and sampled.metric is not None
    assert sampled.hopeless_at is not None and sampled.seconds.training > 1
