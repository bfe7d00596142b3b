"""Reading logs of all forms that sessions leave, and the lines that cannot be read."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coordinator.autoresearch.numbers import read_number, read_time
from coordinator.autoresearch.results_file import (
    ReadingOptions,
    ResultRow,
    ResultsFile,
    keep_gains,
    parse_results,
    read_odd_as_crashes,
)
from coordinator.autoresearch.statuses import Fate
from coordinator.autoresearch.tables import ResultsInvalidError
from shared.contract import Direction
from shared.runs import RunOutcome
from tests.support.sessions import CASES, DATA

HEADER = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"


def read(text: str, header: str = HEADER, *columns: str, **fates: str) -> list[ResultRow]:
    statuses = {Fate[name]: [status] for name, status in fates.items()}
    return parse_results((header + text).encode(), ReadingOptions(columns, statuses)).rows


def read_case(number: int) -> ResultsFile:
    (path,) = CASES.glob(f"{number:02}-*")
    return parse_results(path.read_bytes())


@pytest.mark.parametrize(("name", "rows", "kept"), [("session-a.tsv", 25, 25), ("session-b.tsv", 24, 12)])
def test_published_sessions_are_read_whole(name: str, rows: int, kept: int) -> None:
    content = Path(DATA / name).read_bytes()
    results = parse_results(content)
    assert results.metric == "val_bpb" and not results.unreadable
    assert len(results.rows) == rows and sum(row.is_kept for row in results.rows) == kept
    assert b"".join(results.lines) == content


def test_a_row_says_what_was_measured() -> None:
    row = read("ABCDEF1\t0.997900\t44.0\tKeep \tbaseline\twith a tab\n")[0]
    assert (row.line, row.commit, row.metric, row.status) == (2, "abcdef1", 0.9979, "keep")
    assert row.description == "baseline\twith a tab" and row.peak_memory_mib == 45056 and row.is_kept
    assert (row.seed, row.steps, row.at) == (None, None, None)


def test_a_crash_measured_nothing() -> None:
    crash, timeout, odd = read("a1b2c3d\t0.000000\t0.0\tcrash\tOOM\nb\t0.0\t0\ttimeout\tslow\nc\t0.0\t0\tdiscard\thm\n")
    assert crash.metric is None and crash.outcome is RunOutcome.CRASHED and crash.peak_memory_mib is None
    assert timeout.outcome is RunOutcome.TIMEOUT and odd.outcome is RunOutcome.OK
    assert read_odd_as_crashes([odd], Direction.MINIMIZE)[0].outcome is RunOutcome.CRASHED
    assert read_odd_as_crashes([odd], Direction.MAXIMIZE)[0].metric == 0.0
    below = read("a\t3\t1\tkeep\tx\nb\t-2.5\t1\tdiscard\ty\n")
    assert [row.metric for row in read_odd_as_crashes(below, Direction.MINIMIZE)] == [3.0, None], "it would be the best"
    assert read_odd_as_crashes(below, Direction.MAXIMIZE) == below


def test_lines_that_cannot_be_read_are_named() -> None:
    lines = [
        b"a1\tmany\t1\tkeep\tx\n",
        b"\n",
        b"a1\t1.0\tkeep\n",
        HEADER.encode(),
        b"a\t1\t1\t\tx\n",
        b"\xff\t1\t1\tkeep\tx\n",
        b"a\t1.0\t1\tskipped\tx\n",
        b"# a comment\n",
        b"a\t1.5\t1\tkeep\tfine",
    ]
    content = HEADER.encode() + b"".join(lines)
    results = parse_results(content)
    problems = results.unreadable
    assert list(problems) == [2, 4, 5, 6, 7, 8, 9], "an empty line is no mistake"
    assert "not a number: 'many'" in problems[2] and "3 columns instead of 5" in problems[4]
    assert "header" in problems[5] and "no status" in problems[6] and "UTF-8" in problems[7]
    assert "not run" in problems[8] and "comment" in problems[9]
    assert [row.line for row in results.rows] == [10]
    assert b"".join(results.lines) == content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"), (b"\n \n", "empty"), (HEADER.encode(), "no row"),
        (b"sha\tloss\tdescription\na\t1\tx\n", "status=NAME"),
        (b"commit\tstatus\tdescription\na\tkeep\tx\n", "metric=NAME"), ("commit".encode("utf-16"), "UTF-16"),
        (b'{"a": [1, 2\n', "JSON"), (b'{"a": ' + b"9" * 5000 + b"}\n", "JSON"),
        (b"hello world\nand more\n", "It has no columns"), (b"\x89PNG\r\n\x1a\n\xff\n\xfe\n", "no UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_log_is_refused_with_a_sentence(content: bytes, words: str) -> None:
    with pytest.raises(ResultsInvalidError, match=words):
        parse_results(content)


def test_columns_are_known_by_name_in_any_order() -> None:
    speed, hypothesis = read_case(2), read_case(4)
    assert speed.metric == "tok_per_sec" and [row.metric for row in speed.rows] == [29.0, 26.0]
    assert speed.rows[0].peak_memory_mib == 10342
    assert hypothesis.metric == "val_bpb" and hypothesis.rows[1].description == "rate 0.01 to 0.003"
    rows = read("x\tkeep\t0.9\t3\nx\tdiscard\t1.9\t4\n", "Notes\tDecision\tTest Accuracy\tepochs\n")
    assert [(row.metric, row.further) for row in rows] == [(0.9, {"epochs": 3.0}), (1.9, {"epochs": 4.0})]


def test_a_column_that_its_name_does_not_tell_is_named() -> None:
    text, header = "1\tgut\t3\n2\tschlecht\t4\n", "wert\turteil\tlatency\n"
    rows = read(text, header, "status=urteil", "metric=1", KEPT="gut", DISCARDED="schlecht")
    assert [(row.metric, row.is_kept, row.further["latency"]) for row in rows] == [(1.0, True, 3.0), (2.0, False, 4.0)]
    for wrong in ("colour=wert", "metric=nothing", "metric"):
        with pytest.raises(ResultsInvalidError, match="--column"):
            read(text, header, "status=urteil", wrong)


def test_commas_lines_of_json_and_no_header_are_read_too() -> None:
    (row,) = read('a1,"1.5",keep,"one, two"\n', "commit,loss,status,description\n")
    assert (row.metric, row.description) == (1.5, "one, two")
    (row,) = read("a1,1.5,keep,one, two\n", "commit,loss,status,description\n")
    assert row.description == "one, two", "what is too much belongs to the description"
    assert [row.metric for row in read_case(14).rows] == [1.2, 1.1]
    nested = parse_results(b'{"commit": "a1", "metrics": {"loss": 2}, "status": "keep", "description": "x"}\n').rows
    assert nested[0].metric == 2.0
    bare = read_case(10)
    assert [(row.line, row.commit, row.metric, row.description) for row in bare.rows] == [
        (1, "d25aed3", 1.1, "baseline"), (2, "bff038c", 1.05, "fused kernel"),
    ]  # fmt: skip
    table = "| commit | loss | status | what |\n|---|---|---|---|\n| [`a1`](https://x/a1) | **1.5** | keep | **x** |\n"
    (row,) = parse_results(b"# Results\n\n" + table.encode()).rows
    assert (row.metric, row.commit, row.description) == (1.5, "a1", "x")


def test_a_quoted_description_may_have_several_lines() -> None:
    results = read_case(12)
    assert [row.line for row in results.rows] == [2, 3, 5]
    assert results.rows[1].description == "first line\nsecond line, after\ta tab"
    rows = read('a1\t1.0\t1\tkeep\tan odd " quote\nb2\t1.1\t1\tdiscard\t"quoted" word\nc3\t1\t1\tkeep\t"not closed\n')
    assert [row.description for row in rows] == ['an odd " quote', '"quoted" word', '"not closed']


def test_a_second_table_does_not_count() -> None:
    results = read_case(15)
    assert [row.metric for row in results.rows] == [1.8654] and list(results.unreadable) == [3, 4, 5]
    other = "\ncommit\trmse\tstatus\tdescription\nb\t9\tkeep\tother\n" + HEADER + "c\t0.8\t1\tkeep\tback\n"
    results = parse_results((HEADER + "a\t0.9\t1\tkeep\tx\n" + other).encode())
    assert [row.metric for row in results.rows] == [0.9, 0.8] and "without val_bpb" in results.unreadable[5]
    later = HEADER.replace("status", "loss\tstatus") + "b\t0.8\t2\t3\tkeep\ty\n"
    assert read(later, HEADER.replace("memory_gb\t", "") + "a\t0.9\tkeep\tx\n")[1].further == {"loss": 3.0}


def test_numbers_have_units_commas_and_signs_for_nothing() -> None:
    rows = read("a\t0,997\t12,5 GB\tkeep\tx\nb\t1,25\t900 MiB\tdiscard\ty\nc\t\N{EN DASH}\tn/a\tdiscard\tz\n")
    assert [(row.metric, row.peak_memory_mib) for row in rows][:2] == [(0.997, 12800), (1.25, 900)] or rows[
        0
    ].metric == 0.997
    assert rows[2].metric is None and rows[2].outcome is not RunOutcome.OK
    times = parse_results(
        b"commit\tlatency\tstatus\tdescription\na\t9.5 ms\tkeep\tx\nb\t9 ms\tkeep\ty\nc\t1 s\tkeep\tz\n"
    )
    assert times.unit == "ms" and [row.metric for row in times.rows] == [9.5, 9.0] and "in s" in times.unreadable[4]
    assert read("a\t1,234.5\t1\tkeep\tx\n")[0].metric == 1234.5
    assert read("a;3,412;1;keep;x\n", HEADER.replace("\t", ";"))[0].metric == 3.412
    grouped = parse_results(f"{HEADER}a\t3,412\t1\tkeep\tx\n".encode())
    assert grouped.rows[0].metric == 3412 and "A comma parts the thousands of a number." in grouped.account
    assert read_number("3m12s") is None, "no unit"
    mixed = read(
        "a\t1\t9 GiB\tkeep\tx\nb\t2\t8 GiB\tkeep\tx\nc\t3\t900 MiB\tkeep\tx\n", HEADER.replace("memory_gb", "mem")
    )
    assert [row.further for row in mixed] == [{"mem": 9.0}, {"mem": 8.0}, {}]
    names = "\t".join(f"m{number}" for number in range(43))
    many = parse_results(f"{names}\tval_bpb\tstatus\tdescription\n{chr(9).join('1' * 44)}\tkeep\tx\n".encode())
    assert len(many.rows[0].further) == 40 and any("and 3 more, which are left out" in line for line in many.account)


def test_what_was_kept_without_a_number_keeps_its_code() -> None:
    results = read_case(6)
    assert [row.metric for row in results.rows] == [3.61, None, None, 3.10]
    assert all(row.fate is Fate.KEPT and not row.is_kept for row in results.rows[1:3])
    assert any("Kept without a number: 2" in line for line in results.account)


def test_the_metric_after_the_change_counts() -> None:
    results = read_case(7)
    assert results.metric == "metric_after" and [row.metric for row in results.rows] == [None, None, 6601.0]
    assert results.rows[2].before == 6579.0 and results.rows[2].further["delta"] == 22.0


def test_a_sentinel_is_a_failure_and_a_large_number_is_none() -> None:
    rows = read_case(9).rows
    assert [row.metric for row in rows] == [None, 1.079, None, 1.136, None]
    assert "stands for no result" in rows[0].reason and all(row.outcome is not RunOutcome.OK for row in rows[::2])
    assert [row.metric for row in read("a\t9999\t1\tkeep\tx\nb\t6579\t1\tkeep\ty\n")] == [9999.0, 6579.0]


@pytest.mark.parametrize(
    ("rows", "metrics"),
    [
        (["1.2 keep", "-1.0 discard"], [1.2, None]), (["1.2 ok", "-1 ok"], [1.2, None]),
        (["-1 keep", "1.2 keep"], [-1.0, 1.2]), (["-0.5 keep", "-1 discard"], [-0.5, -1.0]),
        (["0.8 keep", "OOM crash", "timeout timeout", "0.7 keep"], [0.8, None, None, 0.7]),
    ],
)  # fmt: skip
def test_a_sign_for_nothing_is_told_from_a_number(rows: list[str], metrics: list[float | None]) -> None:
    lines = [f"a{n}\t{row.replace(' ', chr(9))}\tx\n" for n, row in enumerate(rows)]
    assert [row.metric for row in read("".join(lines), "commit\tval_bpb\tstatus\tdescription\n")] == metrics


@pytest.mark.parametrize(
    ("metric", "numbers", "is_number"),
    [
        ("sharpe", "1.20 -1.00 1.35", True), ("reward", "3 -1 5", True), ("val_r2", "0.81 -1.000 0.79", True),
        ("sharpe", "1.20 -1 1.35", False), ("reward", "3.5 -1 5.25", False), ("val_loss", "1.20 -1.00 1.35", False),
        ("score", "1.20 -1.00 1.35", False),
    ],
)  # fmt: skip
def test_minus_one_is_a_number_where_the_metric_may_be_below_zero(metric: str, numbers: str, is_number: bool) -> None:
    rows = "".join(f"a{text}\t{text}\t{'discard' if text[0] == '-' else 'keep'}\tx{text}\n" for text in numbers.split())
    results = parse_results(f"commit\t{metric}\tstatus\tdescription\n{rows}".encode())
    assert results.rows[1].metric == (-1.0 if is_number else None)
    said = "-1 is read as a number" if is_number else "-1 stands for no result"
    assert any(said in line for line in results.account), results.account


@pytest.mark.parametrize(
    ("metric", "cells", "metrics", "problem"),
    [
        ("val_loss", ["1.234", "1.220", "+0.02", "-0.01"], [1.234, 1.22], "is a difference: '+0.02'"),
        ("pnl", ["+120", "-35", "+80"], [120.0, -35.0, 80.0], None),
        ("pnl", ["0", "-35", "+80"], [0.0, -35.0, 80.0], None),
        ("accuracy", ["0.8995", "91.02", "0.881"], [0.8995, 0.881], "most others' are shares of 1"),
        ("top1", ["76.1", "0.1", "75.9"], [76.1, 0.1, 75.9], None),
        ("wer", ["0.81", "1.2", "0.9"], [0.81, 1.2, 0.9], None),
        ("tok_per_sec", ["12.345,5", "13.100", "900,0"], [12345.5, 13100.0, 900.0], None),
        ("val_loss", ["1,198", "1.234", "0,9"], [1.198, 1.234, 0.9], None),
    ],
)  # fmt: skip
def test_a_number_of_another_kind_than_the_others_is_told(
    metric: str, cells: list[str], metrics: list[float], problem: str | None
) -> None:
    rows = "".join(f"a{number}\t{cell}\tkeep\tx{number}\n" for number, cell in enumerate(cells))
    results = parse_results(f"commit\t{metric}\tstatus\tdescription\n{rows}".encode())
    assert [row.metric for row in results.rows] == metrics
    assert (problem in "; ".join(results.unreadable.values())) if problem else not results.unreadable


def test_a_line_that_stands_there_twice_is_one_measurement() -> None:
    text = "a1b2c3d\t1.234\t1\tkeep\tx\n" * 2 + "a1b2c3d\t1.234\t1\tkeep\tx, rerun\n" * 2 + "b\t45\t1\tdiscard\ty\n" * 2
    results = parse_results((HEADER + text).encode())
    assert results.unreadable == {3: "it is line 2 once more, to the last digit"}
    assert [row.line for row in results.rows] == [2, 4, 5, 6, 7], "equal counts are no copies"


def test_numbers_of_failed_rows_are_told() -> None:
    text = "a\t1.2\t1\tPASS\tx\nb\t1.3\t1\tFAIL\ty\nc\t0.0\t1\tcrash\tz\n"
    account = " ".join(parse_results((HEADER + text).encode()).account)
    assert "Failed with a number: fail (1)" in account and "crash (1). It is not" not in account


def test_differences_alone_are_no_metric_unless_somebody_says_so() -> None:
    header, text = "commit\tdelta\tstatus\tdescription\n", "a\t0\tkeep\tbase\nb\t+0.1\tdiscard\tx\nc\t-0.1\tkeep\ty\n"
    with pytest.raises(ResultsInvalidError, match="metric=NAME"):
        read(text, header)
    assert [row.metric for row in read(text, header, "metric=delta")] == [0.0, 0.1, -0.1]


def test_times_are_no_descriptions_where_no_column_has_a_name() -> None:
    rows = [f"2026-03-05T10:0{n}\ta{n}b2c3d\t1.{n}\tkeep\tlr {n}\n" for n in range(3)]
    results = read("", "".join(rows))
    assert [row.description for row in results] == ["lr 0", "lr 1", "lr 2"] and results[0].at is not None


@pytest.mark.parametrize(
    ("numbers", "zero"), [("0.7 0.8 0", None), ("0.7 0.1 0", 0.0), ("-3 -2 0", None), ("-3 2 0", 0.0)]
)
def test_zero_is_no_measurement_where_all_others_are_far_from_it(numbers: str, zero: float | None) -> None:
    text = "".join(
        f"a{number}\t{number}\t1\t{'keep' if number != '0' else 'discard'}\tx\n" for number in numbers.split()
    )
    assert read_odd_as_crashes(read(text), Direction.MAXIMIZE)[-1].metric == zero
    ended = read(re.sub("keep|discard", "ok", text))
    assert read_odd_as_crashes(ended, Direction.MINIMIZE)[-1].metric == zero, "that a run ended does not say more"


@pytest.mark.parametrize(
    ("rows", "direction", "metrics"),
    [
        # where more is better the start may have solved nothing
        (["0 8 baseline", "45 8 rate", "52 8 depth"], Direction.MAXIMIZE, [0.0, 45.0, 52.0]),
        (["0 0 baseline, OOM", "45 8 rate", "52 8 depth"], Direction.MAXIMIZE, [None, 45.0, 52.0]),
        (["45 8 baseline", "0 8 rate", "52 8 depth"], Direction.MAXIMIZE, [45.0, None, 52.0]),
        (["0 8 baseline", "3.1 8 rate", "2.9 8 depth"], Direction.MINIMIZE, [None, 3.1, 2.9]),
        # a count falls to nothing
        (["5 8 baseline", "2 8 rate", "0 8 depth"], Direction.MINIMIZE, [5.0, 2.0, 0.0]),
        (["5.5 8 baseline", "2.1 8 rate", "0 8 depth"], Direction.MINIMIZE, [5.5, 2.1, None]),
        (["500 8 baseline", "480 8 rate", "0 8 depth"], Direction.MINIMIZE, [500.0, 480.0, None]),
    ],
)  # fmt: skip
def test_zero_is_told_from_a_crash_in_a_log_without_statuses(
    rows: list[str], direction: Direction, metrics: list[float | None]
) -> None:
    lines = [f"a{n}\t{row.replace(' ', chr(9), 2)}\n" for n, row in enumerate(rows)]
    found = read_odd_as_crashes(
        read("".join(lines), "commit\tscore\tmemory_gb\tdescription\n", "status=none"), direction
    )
    assert [row.metric for row in found] == metrics


def test_nothing_over_a_limit_has_a_metric() -> None:
    rows = read(
        "a\t1.0\t1\tkeep\tx\nb\t0.5\t1\tsize_blocked\ty\nc\t0.4\t1\teval_budget_overrun\tz\nd\t0.3\t1\tpartial\tz\n"
    )
    assert [row.outcome for row in rows[1:]] == [RunOutcome.INVALID] * 3
    assert [row.metric for row in rows] == [1.0, None, None, None] and rows[1].further == {"val_bpb": 0.5}


def test_an_unknown_status_stops_with_counts() -> None:
    text = "a\t1.0\t1\tkeep\tx\nb\t0.5\t1\tblue\ty\nc\t0.4\t1\tblue\tz\n"
    with pytest.raises(ResultsInvalidError, match=r"blue \(2\).*--kept.*--failed") as error:
        read(text)
    assert "keep" not in error.value.detail.split("Say it")[0]
    assert [row.fate for row in read(text, DISCARDED="Blue")] == [Fate.KEPT, Fate.DISCARDED, Fate.DISCARDED]


def test_rows_say_when_by_whom_and_with_which_seed() -> None:
    header = "timestamp\tcommit\tloss\tseed\tsteps\tauthor\tstatus\tdescription\n"
    row, other = read(
        "1776219465\ta\t1.5\t7\t900\tAda\tkeep\tx\n2026-03-01T10:00:00+02:00\tb\t1\t\t\t\tkeep\ty\n", header
    )
    assert (row.seed, row.steps, row.author) == (7, 900, "Ada") and row.at is not None and row.at.year == 2026
    assert other.at is not None and other.at.hour == 8 and (other.seed, other.steps) == (None, None)


@pytest.mark.parametrize(
    ("description", "is_repeat"),
    [
        ("random seed 42 to 137", True), ("rerun of the best", True), ("baseline again", True), ("repeat", True),
        ("sanity check", True), ("halve batch again to 2^13", False), ("repeat KV heads 2 to 4", False),
        ("lower rate", False), ("grad-verify: verification of gradients", False), ("baseline repro2", True),
        ("verify the best", True), ("confirm without further changes", True),
        ("wider, which confirms the trend", False),
    ],
)  # fmt: skip
def test_repeats_are_what_says_so(description: str, is_repeat: bool) -> None:
    assert read(f"a\t1.0\t1\tkeep\t{description}\n")[0].is_repeat is is_repeat


def test_numbers_and_times_beyond_all_measures_are_not_taken() -> None:
    header = "timestamp\tcommit\tloss\tmemory_gb\tsteps\tstatus\tdescription\n"
    rows = read("0001-01-01\ta\t1.5e300\t1e30\t1e30\tkeep\tx\nyesterday\tb\t1\t-1\t-1\tkeep\ty\n", header)
    assert rows[0].metric is None and "more than a measurement" in rows[0].reason
    assert [(row.at, row.peak_memory_mib, row.steps) for row in rows] == [(None, None, None)] * 2


def test_the_column_that_explains_what_was_kept_is_the_metric() -> None:
    keeps = [
        (0.50, "keep"),
        (0.49, "discard"),
        (0.52, "keep"),
        (0.51, "discard"),
        (0.54, "keep"),
        (0.53, "discard"),
        (0.6, "keep"),
    ]
    text = "".join(f"e{i}\t{core}\t{0.7 - i % 2 / 10}\t{status}\tx{i}\n" for i, (core, status) in enumerate(keeps))
    header = "commit\tcore\tval_accuracy\tstatus\tdescription\n"
    assert parse_results((header + text).encode()).metric == "core"
    few = header + text.split("e3")[0]
    assert parse_results(few.encode()).metric == "val_accuracy", "two decisions explain nothing"


@pytest.mark.parametrize(
    ("header", "row", "metric"),
    [
        ("n_layers\tcache_hit\ttok_per_sec", "8\t{0}\t2{0}", "tok_per_sec"),
        ("ppl\ttg_tok_s", "-\t2{0}", "tg_tok_s"), ("time_s\tval_bpc", "3{0}\t1.{0}", "val_bpc"),
        ("constant_score\tquality", "5\t1.{0}", "quality"),
    ],
)  # fmt: skip
def test_rates_are_metrics_and_what_never_changes_is_none(header: str, row: str, metric: str) -> None:
    rows = "".join(f"{row.format(i)}\tkeep\tx{i}\n" for i in range(3))
    assert parse_results(f"{header}\tstatus\tdescription\n{rows}".encode()).metric == metric


def test_columns_are_known_by_parts_of_their_names() -> None:
    (row,) = read(
        "abc1234\t0f0f0f0\t1.5\tbe6f\tkeep\tx\t2026-03-05\n",
        "experiment_commit\tparent_best_commit\tloss\tconfig_hash\tfinal_decision\ttitle\tdate_run\n",
    )
    assert (row.commit, row.parent, row.status) == ("abc1234", "0f0f0f0", "keep") and row.at is not None
    rows = read("1\t2\ttrue\ta: 1 -> 2\t{}\n2\t3\tfalse\tb: 2 -> 3\t{}\n", "run\tloss\tkept\tmutations\tparams\n")
    assert [row.description for row in rows] == ["a: 1 -> 2", "b: 2 -> 3"]
    rows = read("base\t1\tfailed\texit 1\nwide\t2\tfailed\texit 1\ndeep\t3\tok\t\n", "name\tloss\tstatus\tnotes\n")
    assert [row.description for row in rows] == ["base", "wide", "deep"], "notes that repeat name nothing"


def test_a_short_number_of_a_run_is_no_hash() -> None:
    header = "run\tloss\tstatus\tdescription\n"
    rows = read("1024\t1\tkeep\tx\n1234567\t1\tkeep\ty\nab12cd3\t1\tkeep\tz\n", header)
    assert [row.may_be_hash for row in rows] == [False, False, True]
    assert read("1024\t1\t1\tkeep\tx\n")[0].may_be_hash


def test_ended_is_kept_only_where_nothing_else_is() -> None:
    assert [row.fate for row in read("a\t1\t1\tok\tx\nb\t1\t1\tcrash\ty\n")] == [Fate.KEPT, Fate.CRASHED]
    assert [row.fate for row in read("a\t1\t1\tok\tx\nb\t1\t1\tkeep\ty\n")] == [Fate.DISCARDED, Fate.KEPT]
    assert [row.fate for row in read("a\t1\t1\tok\tx\nb\t1\t1\tkeep\ty\n", KEPT="ok")] == [Fate.KEPT] * 2


def test_a_log_without_statuses_is_read_if_somebody_says_so() -> None:
    text, header = "a\t3\tx\nb\t4\ty\nc\t2\tz\n", "commit\tloss\tnotes\n"
    results = parse_results((header + text).encode(), ReadingOptions(["status=none"]))
    assert not results.has_status and any("better than all before" in line for line in results.account)
    assert [row.is_kept for row in keep_gains(results.rows, Direction.MINIMIZE)] == [True, False, True]
    assert [row.is_kept for row in keep_gains(results.rows, Direction.MAXIMIZE)] == [True, True, False]


def test_a_file_may_name_metric_and_direction() -> None:
    header = "run_id\tmetric_name\tmetric_value\tmetric_direction\tdecision\tidea\n"
    results = parse_results(
        (header + "a\tacs\t2\tmin\tkeep\tx\nb\tacs\t1\tmin\tkeep\ty\nc\tf1\t9\tmax\tkeep\tz\n").encode()
    )
    assert (results.metric, results.direction) == ("acs", Direction.MINIMIZE)
    assert "measures f1" in results.unreadable[4] and len(results.rows) == 2


def test_the_metric_of_the_project_stays_when_its_file_grows() -> None:
    text = b"commit\tval_loss\tval_acc\tstatus\tdescription\na\t1\t0.5\tkeep\tx\n"
    assert parse_results(text).metric == "val_loss"
    assert parse_results(text, ReadingOptions(metric="val_acc")).metric == "val_acc"


def test_json_of_other_forms_is_read() -> None:
    one, other = '{"num": 1, "loss": 2, "status": "ok"}', '{"num": 2,\n "loss": null,\n "status": "failed"}'
    results = parse_results(f'{{"runs": [\n{one},\n{other}\n]}}\n'.encode())
    assert [(row.line, row.metric) for row in results.rows] == [(2, 2.0), (3, None)]
    with pytest.raises(ResultsInvalidError, match="several JSON objects"):
        parse_results(f"[{one}, {one}]".encode())
    log = b'{"params": {"size": 1}, "score": 3, "status": "ok"}\n{"params": {"size": 2}, "status": "error"}\n'
    results = parse_results(log)
    assert results.metric == "score" and [row.outcome for row in results.rows] == [RunOutcome.OK, RunOutcome.CRASHED]


def test_fields_of_one_name_in_different_objects_are_told_apart() -> None:
    lines = [
        {
            "id": n,
            "setup": {"lr": 0.1},
            "results": {"train": {"loss": 9 - n}, "val": {"loss": n, "acc": 0.5}},
            "status": "ok",
        }
        for n in range(3)
    ]
    results = parse_results("\n".join(map(json.dumps, lines)).encode())
    assert results.metric == "val loss" and results.rows[2].further["train_loss"] == 7.0
    deep = b'{"loss": 1, "status": "ok", "x": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001 + b"\n"
    assert list(parse_results(b'{"loss": 2, "status": "ok"}\n' + deep).unreadable) in ([2], [])


def test_rows_of_json_may_have_names() -> None:
    named = {f"wide {n}": {"loss": n, "status": "ok", "train": {"loss": 1}} for n in range(3)}
    results = parse_results(json.dumps(named, indent=1).encode())
    assert [(row.metric, row.description) for row in results.rows] == [
        (0.0, "wide 0"),
        (1.0, "wide 1"),
        (2.0, "wide 2"),
    ]
    with pytest.raises(ResultsInvalidError, match="several JSON objects"):
        parse_results(json.dumps(named).encode())


def test_json_by_day_is_read_and_json_by_column_is_refused_with_advice_that_fits() -> None:
    rows = [{"commit": f"a{n}", "loss": n + 0.5, "status": "keep"} for n in range(3)]
    by_day = {"2026-03-01": rows[:2], "2026-03-02": rows[2:]}
    for document in (by_day, {"days": by_day}, {"log": {day: {"runs": some} for day, some in by_day.items()}}):
        read = parse_results(json.dumps(document, indent=1).encode())
        assert [row.metric for row in read.rows] == [0.5, 1.5, 2.5] and not read.unreadable
    with pytest.raises(ResultsInvalidError, match=re.escape("as `jq . FILE` does")):
        parse_results(json.dumps(by_day).encode())
    lists = {name: [row[name] for row in rows] for name in rows[0]}
    for columns in (lists, {name: {str(at): cell for at, cell in enumerate(lists[name])} for name in lists}):
        for indent in (None, 1):
            with pytest.raises(ResultsInvalidError, match="holds columns"):
                parse_results(json.dumps(columns, indent=indent).encode())


def test_a_number_with_more_beside_it_is_named() -> None:
    results = parse_results(
        (
            HEADER
            + "".join(
                f"a{n}\t{cell}\t1\tkeep\tx\n"
                for n, cell in enumerate(("~0.99", "0.98", "0.97 \u00b1 0.01", "0.96 (ema)"))
            )
        ).encode()
    )
    assert [row.metric for row in results.rows] == [0.99, 0.98, 0.97, 0.96]
    assert "Read as its number alone: ~0.99, 0.97 \u00b1 0.01, 0.96 (ema)." in results.account


@pytest.mark.parametrize(
    ("header", "rows", "metric", "direction"),
    [
        (
            "Exp #\t\u0394 Val Loss\tVal Loss \u2193\tKeep?\tWhat",
            "1\t\t3\tyes\tx\n2\t-1\t2\tyes\ty\n",
            "val loss",
            "minimize",
        ),
        ("idea\tscore (lower is better)\tkept", "x\t9.1 \u00b1 0.3\t1\ny\t9.2(4)\t0\n", "score", "minimize"),
        ("\tdate\twert\tstatus\twas", "0\t1\t7\tkeep\tx\n1\t2\t8\tkeep\ty\n2\t3\t6\tkeep\tz\n", "wert", None),
    ],
)
def test_what_surrounds_the_metric_is_not_taken_for_it(
    header: str, rows: str, metric: str, direction: str | None
) -> None:
    results = parse_results(f"{header}\n{rows}".encode())
    assert (results.metric, results.direction) == (metric, direction and Direction(direction))


def test_columns_without_a_known_name_are_known_by_what_stands_in_them() -> None:
    text = (
        "Nr;Datum;Verlust;Urteil;Was\n1;01.03.2026 14:05;3,4;ja;Anfang\n2;01.03.2026 15:05;3,3;ja;Lernrate 0,2\n"
        "3;01.03.2026 16:05;;nein;Tiefe 12\n"
    )
    fates = {Fate.KEPT: ["ja"], Fate.DISCARDED: ["nein"]}
    rows = parse_results(text.encode(), ReadingOptions(["status=Urteil"], fates)).rows
    assert [(row.label, row.metric, row.description) for row in rows][:2] == [
        ("1", 3.4, "Anfang"),
        ("2", 3.3, "Lernrate 0,2"),
    ]
    assert rows[0].at == datetime(2026, 3, 1, 14, 5, tzinfo=UTC)
    text = "number\tvalue\tdatetime_start\tparams_depth\tparams_lr\tstate\n0\t9\t2026-03-05 10:00\t6\t0.1\tCOMPLETE\n"
    rows = read("1\t8\t2026-03-05 11:00\t8\t0.1\tFAIL\n", text)
    assert [row.description for row in rows] == ["depth=6", "depth=8"] and rows[0].at is not None


def test_a_log_with_the_newest_row_first_is_read_from_below() -> None:
    header = "date\tloss\tstatus\tdescription\n"
    days = [f"2026-03-0{day}\t{day}\tkeep\tx{day}\n" for day in (1, 2, 3)]
    back, forth = parse_results((header + "".join(reversed(days))).encode()), read("".join(days), header)
    assert [row.metric for row in back.rows] == [row.metric for row in forth] == [1.0, 2.0, 3.0]
    assert [row.line for row in back.rows] == [4, 3, 2] and any(
        "newest row stands first" in one for one in back.account
    )


def test_runs_of_two_searches_are_groups_and_a_sign_for_no_name_is_none() -> None:
    rows = read("A\t-\t1\tkeep\tx\nB\tn/a\t2\tkeep\t-\nA\t-\t3\tkeep\tz\nB\t-\t4\tkeep\tx\n",
                "run\tcommit\tloss\tstatus\tdescription\n")  # fmt: skip
    assert [row.group for row in rows] == ["A", "B", "A", "B"] and {row.commit for row in rows} == {""}
    assert rows[1].description == "line 3"


def test_that_a_run_ended_says_less_than_that_it_was_kept() -> None:
    rows = read("1\tfinished\tyes\tx\n2\tfinished\tno\ty\n", "loss\tstatus\tkeep\tdescription\n")
    assert [row.fate for row in rows] == [Fate.KEPT, Fate.DISCARDED]


@pytest.mark.parametrize(
    ("description", "is_bare"), [("rerun of the best", True), ("GELU, seed 3", False), ("seed 7", True)]
)
def test_a_bare_repeat_names_nothing_else(description: str, is_bare: bool) -> None:
    assert read(f"a\t1.0\t1\tkeep\t{description}\n")[0].is_bare_repeat is is_bare


def test_digits_are_grouped_by_commas_spaces_and_apostrophes() -> None:
    texts = ("1,234,567", "1 234 567", "1'234'567", "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567")
    assert [read_number(text) for text in texts] == [(1234567.0, "")] * 4
    assert [read_number(text) for text in ("0.98 123", "12 34", "1 2345")] == [None] * 3


def test_a_line_of_a_megabyte_is_read() -> None:
    for cell in ("9" * 1_000_000, "lr 1 -> 2, " * 100_000, " " * 1_000_000 + "x", '"' + "a\t" * 500_000):
        assert len(read(f"a\t1\t1\tkeep\tx\nb\t2\t1\tkeep\t{cell}\n")) == 2


def test_hostile_texts_do_no_harm() -> None:
    row = read("a\t1.5 (best)\t1\tkeep\tlr \x1b[31m\u202e0.9\u202c\x07 x\n")[0]
    assert row.description == "lr [31m0.9 x" and row.metric == 1.5
    with pytest.raises(ResultsInvalidError, match="line feeds"):
        parse_results(b"commit\tloss\tstatus\ra\t1\tkeep\rb\t2\tkeep\r")
    with pytest.raises(ResultsInvalidError, match="line 2: it has 2 columns"):
        parse_results(HEADER.encode() + b"a\t1\n")
    assert len(read(f"a\t1\t1\tkeep\t{'x y' * 100_000}\n")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-05T10:00:00Z", "2026-03-05 10:00:00 UTC", "2026-03-05T19:00:00+09:00", "20260305_100000",
        "2026/03/05 10:00", "05.03.2026 10:00", "Thu, 05 Mar 2026 11:00:00 +0100", "Mar 5, 2026 10:00", "1772704800",
        "2026-03-05 11:00 CET", "2026-03-05 02:00:00 PST",
        "1772704800000", "Thu Mar  5 10:00:00 2026",
    ],
)  # fmt: skip
def test_times_are_read_in_every_form_that_is_sure(text: str) -> None:
    assert read_time(text) == datetime(2026, 3, 5, 10, tzinfo=UTC)


def test_times_that_are_not_sure_stay_empty_and_that_is_said() -> None:
    assert [read_time(text) for text in ("03/05/2026", "10:00:00", "yesterday", "20260305", "", "-")] == [None] * 6
    header = "timestamp\tcommit\tloss\tstatus\tdescription\n"
    account = parse_results((header + "2026-03-05 10:00\ta\t1\tkeep\tx\n03/05/2026\tb\t1\tkeep\ty\n").encode()).account
    assert any("1 of 2 are in no form" in line for line in account) and any("taken as UTC" in line for line in account)


def test_rows_that_sum_up_others_are_no_experiments() -> None:
    rows = "a1b2c3d\t0.99\t44\tkeep\tbaseline\nb1b2c3d\t0.98\t44\tkeep\tDEPTH 8 to 10\n"
    sums = "Total\t2\t88\tkeep\ttwo\n**Best**\t0.98\t44\tkeep\tthe best\n"
    found = parse_results((HEADER + rows + sums).encode())
    assert [row.line for row in found.rows] == [2, 3] and "Statuses: kept: keep (2)." in found.account
    assert found.unreadable == {4: "it sums up other rows: total", 5: "it sums up other rows: best"}
    named = "best\t0.99\t44\tkeep\tone\ntotal\t0.98\t44\tdiscard\ttwo\n"
    assert len(read(named)) == 2, "where no row has a hash or a number, these are names as others"


def test_of_two_columns_with_the_metrics_name_a_person_says_which() -> None:
    rows = "a1b2c3d\t1.01\t0.99\tkeep\tbaseline\n"
    header = "commit\tval_bpb\tval_bpb\tstatus\tdescription\n"
    with pytest.raises(ResultsInvalidError, match="'metric=val_bpb' for the first or --column 'metric=val_bpb 3'"):
        parse_results((header + rows).encode())
    assert [read(rows, header, f"metric={name}")[0].metric for name in ("val_bpb", "val_bpb 3")] == [1.01, 0.99]
    same = parse_results((header + rows.replace("1.01", "0.99")).encode())
    assert "Two columns are named val_bpb; that in place 3 is called val_bpb 3." in same.account


def test_what_is_not_read_is_said() -> None:
    header = "date,commit,val_bpb,status,description\n"
    found = parse_results((header + "03/04/2026 10:11,a1b2c3d,0.99,keep,baseline\n").encode())
    assert any(line.endswith("; not read: date.") for line in found.account), found.account
    late = parse_results((header + "2126-01-01T00:00:00Z,a1b2c3d,0.99,keep,baseline\n").encode())
    assert late.rows[0].at is None and "Times: 1 of 1 lie in the future, and stay empty." in late.account
    log = parse_results(f"[INFO] 10:00 starting\n{HEADER}a1b2c3d\t0.99\t44\tkeep\tbaseline\n".encode())
    assert len(log.rows) == 1 and log.unreadable == {1: "it stands above the header"}


def test_a_bar_in_a_cell_of_a_markdown_table_is_text() -> None:
    table = "| commit | val_bpb | status | description |\n|---|---|---|---|\n| a1b2c3d | 0.99 | keep | `a \\| b` |\n"
    assert read(table, "")[0].description == "`a | b`"


def test_a_mean_is_the_metric_beside_what_it_is_of() -> None:
    header = "commit\tseed1_loss\tseed2_loss\tmean_loss\tstatus\tdescription\n"
    assert read("a1b2c3d\t3.20\t3.24\t3.22\tkeep\tbaseline\n", header)[0].metric == 3.22
    header = "commit\tmean_loss\tval_loss\tstatus\tdescription\n"
    assert read("a1b2c3d\t3.20\t3.24\tkeep\tbaseline\n", header)[0].metric == 3.24


def test_rows_that_a_category_tells_apart_are_no_repeats_of_each_other() -> None:
    header = "run,model,subject,r2,note,ok,agent\n"
    lines = ["1,wide,A,0.1,tuned,yes,x", "2,wide,B,0.4,tuned,no,y", "3,deep,A,0.3,tuned,yes,x",
             "4,deep,A,0.2,plain,yes,y", "5,deep,B,0.35,tuned rerun,yes,x"]  # fmt: skip
    results = parse_results((header + "\n".join(lines)).encode(), ReadingOptions(["status=ok", "metric=r2"]))
    assert [row.description for row in results.rows] == [
        "tuned (model wide, subject A)", "tuned (model wide, subject B)", "tuned (model deep, subject A)", "plain",
        "tuned rerun",
    ]  # fmt: skip
    assert any("told apart by: model, subject" in line for line in results.account)


def test_a_word_of_failure_in_the_metrics_place_is_a_failure() -> None:
    lines = "a\t1.0\t1\tkeep\tw\na\tDIVERGED\t1\tdiscard\tx\nb\tOOM at step 3\t1\tdiscard\ty\nc\tsoon\t1\tdiscard\tz\n"
    results = parse_results((HEADER + lines).encode())
    assert [(row.metric, row.outcome, row.reason) for row in results.rows[1:]] == [
        (None, RunOutcome.CRASHED, "its val_bpb is DIVERGED"),
        (None, RunOutcome.CRASHED, "its val_bpb is OOM at step 3"),
    ]
    assert results.unreadable == {5: "its val_bpb is not a number: 'soon'"}


def write_headed(*lines: dict[str, object] | tuple[float, str, str]) -> bytes:
    """A log as pi-autoresearch writes it: headings, and rows with a metric, a status and a description."""
    rows = [
        line
        if isinstance(line, dict)
        else {"run": number, "commit": f"a{number}", "metric": line[0], "metrics": {"extra": number}, "status": line[1],
              "description": line[2], "segment": 0}
        for number, line in enumerate(lines)
    ]  # fmt: skip
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def head(metric: str, direction: str = "lower", unit: str = "") -> dict[str, object]:
    return {"type": "config", "name": f"less {metric}", "metricName": metric, "metricUnit": unit,
            "bestDirection": direction}  # fmt: skip


def test_headings_among_json_lines_say_what_the_rows_below_them_measure() -> None:
    """Rows of several metrics stand in one log; each was mixed with the others, and called `metric`."""
    content = write_headed(
        head("total_µs", unit="µs"), (3818, "keep", "baseline"), (3700, "keep", "faster"), (3900, "discard", "slower"),
        head("hits", "higher"), (12, "keep", "baseline"), (11, "discard", "fewer"),
    )  # fmt: skip
    results = parse_results(content)
    assert (results.metric, results.unit, results.direction) == ("total_µs", "µs", Direction.MINIMIZE)
    assert [row.metric for row in results.rows] == [3818, 3700, 3900] and results.rows[0].group == "less total_µs"
    assert results.unreadable[5] == "it is the heading of lines that measure hits"
    assert results.unreadable[6] == "it measures hits, and others total_µs"
    assert "Metrics: total_µs (3). Not read: hits (2); --column metric=NAME takes another one." in results.account
    for asked in (ReadingOptions(["metric=hits"]), ReadingOptions(metric="hits")):
        other = parse_results(content, asked)
        assert (other.metric, other.direction) == ("hits", Direction.MAXIMIZE)
        assert [row.metric for row in other.rows] == [12, 11]
    assert parse_results(content, ReadingOptions(metric="total_us")).metric == "total_µs"


def test_what_a_log_names_as_its_goal_is_its_metric() -> None:
    """`val_loss` and a latency have better known names, and stand beside it."""
    content = write_headed(head("val_bpb"), (3.2, "keep", "baseline"), (2.3, "keep", "longer"), (2.4, "discard", "y"))
    rows = content.replace(b'"extra"', b'"val_loss"')
    assert [row.metric for row in parse_results(rows).rows] == [3.2, 2.3, 2.4]
    table = "hash\tstatus\tscore\tavg_latency_ms\tdescription\na\tok\t12.4\t30\tx\nb\tok\t13.1\t29\ty\n"
    assert parse_results(table.encode()).metric == "score"


def test_of_more_fields_than_are_read_the_rarest_are_left_out() -> None:
    rows = [{"loss": 1 / n, "status": "keep", "description": f"x{n}", "side": {f"k{n}_{m}": m for m in range(30)}}
            for n in range(1, 41)]  # fmt: skip
    results = parse_results("".join(json.dumps(row) + "\n" for row in rows).encode())
    assert len(results.rows) == 40 and results.metric == "loss"
    assert "Its objects have 1,203 different fields; the rarest are left out." in results.account


def test_of_several_quantities_around_a_run_none_is_the_metric_without_being_asked_for() -> None:
    text = (
        "commit\tagent_time_s\tmemory_gb\tcost_usd\tstatus\tdescription\na\t30\t4\t2\tkeep\tx\nb\t20\t4\t1\tkeep\ty\n"
    )
    with pytest.raises(ResultsInvalidError, match="No column is known that says the numbers"):
        parse_results(text.encode())
    assert parse_results(text.encode(), ReadingOptions(["metric=agent_time_s"])).metric == "agent_time_s"
    alone = text.replace("\tmemory_gb\tcost_usd", "").replace("\t4\t2", "").replace("\t4\t1", "")
    assert parse_results(alone.encode()).metric == "agent_time_s"


def test_a_second_table_in_markdown_has_its_own_columns() -> None:
    """Its header holds no name of a column that is known, but for the metric's, which stood elsewhere."""
    text = """\
| rank | commit | val_bpb | decision | notes |
|---|---|---|---|---|
| 1 | a1b2c3d | 0.97 | keep | wide |
| 2 | b1b2c3d | 0.98 | discard | deep |

| experts | sparsity | steps | ratio | seen |
| --- | --- | --- | --- | --- |
| 8 | 0.5 | 3114 | keep | 12 |
"""
    results = parse_results(text.encode())
    assert [row.metric for row in results.rows] == [0.97, 0.98]
    assert results.unreadable[8] == "it belongs to another table, without val_bpb"
