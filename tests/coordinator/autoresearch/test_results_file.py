"""Reading a results.tsv, and the lines that cannot be read."""

from pathlib import Path

import pytest

from coordinator.autoresearch.results_file import (
    ResultRow,
    ResultsInvalidError,
    find_direction,
    parse_results,
    read_zeros_as_crashes,
)
from shared.contract import Direction
from shared.runs import RunOutcome
from tests.support.sessions import DATA

HEADER = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"


def read(text: str, header: str = HEADER) -> list[ResultRow]:
    return parse_results((header + text).encode()).rows


@pytest.mark.parametrize(("name", "rows", "kept"), [("session-a.tsv", 25, 25), ("session-b.tsv", 24, 12)])
def test_published_sessions_are_read_whole(name: str, rows: int, kept: int) -> None:
    content = Path(DATA / name).read_bytes()
    results = parse_results(content)
    assert results.metric == "val_bpb" and not results.unreadable
    assert len(results.rows) == rows and sum(row.is_kept for row in results.rows) == kept
    assert b"".join(results.lines) == content
    assert find_direction(results.metric, results.rows) is Direction.MINIMIZE


def test_a_row_says_what_was_measured() -> None:
    row = read("ABCDEF1\t0.997900\t44.0\tKeep \tbaseline\twith a tab\n")[0]
    assert (row.line, row.commit, row.metric, row.status) == (2, "abcdef1", 0.9979, "keep")
    assert row.description == "baseline\twith a tab" and row.peak_memory_mib == 45056 and row.is_kept


def test_a_crash_measured_nothing() -> None:
    crash, timeout, odd = read("a1b2c3d\t0.000000\t0.0\tcrash\tOOM\nb\t0.0\t0\ttimeout\tslow\nc\t0.0\t0\tdiscard\thm\n")
    assert crash.metric is None and crash.outcome is RunOutcome.CRASHED and crash.peak_memory_mib == 0
    assert timeout.outcome is RunOutcome.TIMEOUT and odd.outcome is RunOutcome.OK
    assert read_zeros_as_crashes([odd], Direction.MINIMIZE)[0].outcome is RunOutcome.CRASHED
    assert read_zeros_as_crashes([odd], Direction.MAXIMIZE)[0].metric == 0.0


def test_lines_that_cannot_be_read_are_named() -> None:
    lines = [
        b"a1\tmany\t1\tkeep\tx\n",
        b"\n",
        b"a1\t1.0\tkeep\n",
        HEADER.encode(),
        b"a\t1\t1\t\tx\n",
        b"\xff\t1\t1\tkeep\tx\n",
        b"a\tnan\t1\tkeep\tx\n",
        b"a\t1.5\t1\tkeep\tfine",
    ]
    content = HEADER.encode() + b"".join(lines)
    results = parse_results(content)
    problems = results.unreadable
    assert sorted(problems) == [2, 4, 5, 6, 7, 8], "an empty line is no mistake"
    assert "not a number: 'many'" in problems[2] and "3 columns instead of 5" in problems[4]
    assert "header" in problems[5] and "no status" in problems[6] and "UTF-8" in problems[7] and "nan" in problems[8]
    assert [row.line for row in results.rows] == [9]
    assert b"".join(results.lines) == content


@pytest.mark.parametrize("first", ["", "sha\tloss\tstatus\n", "a1b2c3d\t0.99\t44\tkeep\tbaseline\n"])
def test_what_has_no_header_is_refused(first: str) -> None:
    with pytest.raises(ResultsInvalidError, match="first line"):
        parse_results(first.encode())


def test_the_direction_is_that_of_what_was_kept() -> None:
    header = "commit\taccuracy\tstatus\tdescription\n"
    rising = read("a\t0.5\tkeep\tbaseline\nb\t0.6\tkeep\tx\nc\t0.4\tdiscard\ty\n", header)
    assert find_direction("accuracy", rising) is Direction.MAXIMIZE
    assert find_direction("tokens", read("a\t5\tkeep\tbaseline\nb\t4\tdiscard\tx\n", header)) is Direction.MAXIMIZE
    only = read("a\t0.5\tkeep\tbaseline\n", header)
    assert find_direction("accuracy", only) is Direction.MAXIMIZE
    assert find_direction("val_loss", only) is Direction.MINIMIZE and find_direction("x", only) is Direction.MINIMIZE
