"""The loss curve stays small and evenly spaced, however long the run."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from shared.runs import MAX_CURVE_POINTS, CurvePoint
from worker.runs.report import LossCurve


def draw(count: int) -> list[CurvePoint]:
    curve = LossCurve()
    for step in range(1, count + 1):
        curve.add(CurvePoint(step=step, seconds=step / 100, loss=1.0))
    return curve.thinned()


def test_is_empty_without_points() -> None:
    assert draw(0) == []


def test_keeps_few_points_all() -> None:
    assert [point.step for point in draw(MAX_CURVE_POINTS - 1)] == list(range(1, MAX_CURVE_POINTS))


@given(st.integers(1, 20_000))
@example(MAX_CURVE_POINTS)
@example(3994)  # 500 points when thinned, and the last one is not among them
def test_thins_many_points_evenly(count: int) -> None:
    steps = [point.step for point in draw(count)]
    assert min(count, MAX_CURVE_POINTS) / 4 <= len(steps) <= MAX_CURVE_POINTS
    assert (steps[0], steps[-1]) == (1, count)
    gaps = {later - earlier for earlier, later in pairwise(steps[:-1])}
    assert len(gaps) <= 1
