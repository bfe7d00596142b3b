"""How fast a run learned beside its parent's. Pure."""

import pytest

from coordinator.evidence.run_stats import Work, compare_pace


def work(tokens: int, worker_id: int = 1, steps: int = 100, seconds: float = 10.0) -> Work:
    return Work(worker_id, tokens, steps, seconds)


@pytest.mark.parametrize(
    ("own", "parents", "pace"),
    [
        (work(700), [work(1000)], 0.7),
        (work(700, seconds=5), [work(1000)], 1.4),
        (work(700), [work(1000), work(990), work(20)], 700 / 990),
        (work(700), [work(1400, 2), work(1400, 3), work(1000, 1)], 0.7),
        (work(700, 9), [work(1400, 2), work(1000, 1)], 700 / 1200),
        (work(0, steps=80), [work(0)], 0.8),
        (work(700), [work(0)], None),
        (work(700), [], None),
        (work(700), [work(1000, seconds=0)], None),
        (work(700, seconds=0), [work(1000)], None),
        (work(0, steps=0), [work(0)], None),
    ],
    ids=[
        "fewer tokens", "less time", "the median", "its own worker's", "all others'", "steps", "tokens on one side",
        "not measured", "no time", "no own time", "nothing counted",
    ],
)  # fmt: skip
def test_a_pace_is_work_in_a_second_over_the_parents(own: Work, parents: list[Work], pace: float | None) -> None:
    assert compare_pace(own, parents) == (None if pace is None else pytest.approx(pace))
