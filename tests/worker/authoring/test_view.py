"""worker/authoring/view.py: a bar where there is a terminal, and plain lines where there is none."""

import io

import pytest
from rich.console import Console

from worker.authoring.view import DataBar, View, make_bars
from worker.data.download import DataProgress

STEPS = [
    DataProgress("downloading a.parquet", 0, 4_000_000),
    DataProgress("downloading a.parquet", 3_000_000, 4_000_000),
    DataProgress("downloading a.parquet", 4_000_000, 4_000_000),
    DataProgress("checking a.parquet"),
    DataProgress("downloading b.parquet", 1_000_000, 4_000_000),
]


def test_draws_a_bar() -> None:
    drawn = io.StringIO()
    bars = make_bars(Console(file=drawn, force_terminal=True, width=100), refreshes=False)
    bar = DataBar(bars)
    with bars:
        seen = []
        for step in STEPS:
            bar.follow(step)
            drawn.truncate(0)
            bars.refresh()
            seen.append(drawn.getvalue())
    assert "3.0/4.0 MB" in seen[1] and "━" in seen[1]
    assert "checking a.parquet" in seen[3] and "4.0/4.0 MB" in seen[3]
    assert "checking" not in seen[4] and "1.0/4.0 MB" in seen[4] and "4.0/4.0 MB" in seen[4]


def test_says_each_thing_once_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    view = View(as_json=False)
    with view.follow_data() as follow:
        for step in STEPS:
            follow(step)
    out, err = capfd.readouterr()
    assert (out, err.splitlines()) == ("", ["downloading a.parquet", "checking a.parquet", "downloading b.parquet"])
