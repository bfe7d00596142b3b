"""Numbers as people read them."""

import pytest

from shared.formatting import format_effect, format_measure


@pytest.mark.parametrize(
    ("mean", "sd", "text"),
    [
        (3.27121, 0.004, "3.2712 ± 0.0040"),
        (0.97123, 0.00041, "0.97123 ± 0.00041"),
        (12.345, 1.26, "12.3 ± 1.3"),
        (1234.5, 88.0, "1234 ± 88"),
        (-0.5, 0.02, "−0.500 ± 0.020"),
        (2.0, 0.0, "2.0000 ± 0.0000"),
    ],
)
def test_a_mean_shows_the_decimals_that_its_sd_has(mean: float, sd: float, text: str) -> None:
    assert format_measure(mean, sd) == text


def test_an_effect_always_has_a_sign() -> None:
    assert format_effect(-0.03121, 0.0061) == "−0.0312 ± 0.0061"
    assert format_effect(0.0029, 0.0061) == "+0.0029 ± 0.0061"
