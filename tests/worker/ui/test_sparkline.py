"""worker/ui/sparkline.py"""

import pytest

from worker.ui.sparkline import sparkline


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([3.0], "▁"),
        ([2.0, 2.0], "▁▁"),
        ([0.0, 7.0, 14.0], "▁▅█"),
        ([8.0, 8.0, 4.0, 4.0, 0.0, 0.0], "█▅▁"),
    ],
)
def test_draws_the_means(values: list[float], expected: str) -> None:
    assert sparkline(values, 3) == expected


def test_is_never_wider_than_asked() -> None:
    assert len(sparkline([float(n) for n in range(1000)], 24)) == 24
