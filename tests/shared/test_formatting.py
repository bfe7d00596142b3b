"""Numbers as people read them."""

import re
from pathlib import Path

import pytest

from shared.formatting import format_change, format_decimals, format_effect, format_measure, format_run, list_ticks


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


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (3.271234, "3.27123"),
        (0.0000123456, "1.23456e−05"),
        (3.2, "3.20000"),
        (-0.25, "−0.250000"),
        (123456.0, "123456"),
        (None, "–"),
    ],
)
def test_a_run_shows_six_significant_digits(metric: float | None, text: str) -> None:
    assert format_run(metric) == text


def test_nothing_that_people_read_shows_a_metric_with_digits_of_its_own() -> None:
    root = Path(__file__).parents[2]
    folders = ("swarm", "worker", "coordinator")
    files = [file for folder in folders for file in (root / folder).rglob("*")]
    own = re.compile(
        r"""(metric(_mean)?|predicted\w*)(:\+?[.#]\d|\.to(Fixed|Precision))|"""
        r"""%\+?\.\d[fg]['"]\s*\|\s*format\([\w.]*(metric|predicted)"""
    )
    texts = {file: file.read_text() for file in files if file.suffix in (".py", ".html", ".js")}
    found = [str(file.relative_to(root)) for file, text in texts.items() for _ in own.finditer(text)]
    assert found == ["coordinator/web/static/plotting.js"], "where one run's metric is written for plots"


@pytest.mark.parametrize(
    ("metric", "text"), [(0.9979, "0.997900"), (12345.678, "12345.678000"), (0.0, "0.000000"), (3.2e-8, "3.20000e-08")]
)
def test_programs_read_a_small_metric_with_its_digits(metric: float, text: str) -> None:
    assert format_decimals(metric) == text


def test_an_effect_always_has_a_sign() -> None:
    assert format_change(-0.07) == "−0.07" and format_change(None) == "–"
    assert format_effect(-0.03121, 0.0061) == "−0.0312 ± 0.0061"
    assert format_effect(0.0029, 0.0061) == "+0.0029 ± 0.0061"


@pytest.mark.parametrize(
    ("low", "high", "most", "texts"),
    [
        (2.02, 2.61, 4, ["2.2", "2.4", "2.6"]),
        (0.5, 364.5, 4, ["100", "200", "300"]),
        (-0.0012, 0.0007, 4, ["−0.0010", "−0.0005", "0.0000", "0.0005"]),
        (0, 12_000, 4, ["0", "5,000", "10,000"]),
        (1.0, 1.0, 4, []),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, most: int, texts: list[str]) -> None:
    assert [text for _, text in list_ticks(low, high, most)] == texts
