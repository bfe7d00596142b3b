"""Reads a `results.tsv`: tab-separated, `commit <metric> [other columns] status description`.

Sessions differ: hashes are short or missing, a crash has the metric 0.000000, metrics have other names and directions,
and some lines are broken. Every line is kept as its bytes, so that the file can be exported unchanged.
"""

from collections.abc import Sequence
from io import BytesIO
from math import isfinite
from typing import NamedTuple

from coordinator.http.errors import SwarmError
from shared.contract import Direction
from shared.runs import RunOutcome

COMMIT, STATUS, DESCRIPTION, MEMORY = "commit", "status", "description", "memory_gb"
BASELINE = "baseline"
KEPT = frozenset({"keep", "kept", BASELINE})
FAILURES = {
    **dict.fromkeys(("crash", "crashed", "error", "fail", "failed", "oom", "nan"), RunOutcome.CRASHED),
    "timeout": RunOutcome.TIMEOUT,
    "invalid": RunOutcome.INVALID,
}
"""Statuses of runs that measured nothing, whatever stands in the metric's column."""

LOWER_IS_BETTER = ("bpb", "loss", "ppl", "perplexity", "error", "bits", "seconds", "latency", "time", "mse", "mae")
HIGHER_IS_BETTER = ("acc", "score", "reward", "f1", "auc", "map", "mfu", "throughput", "per_second")
MIB_PER_GB = 1024  # the original loop's `memory_gb` is its peak in MiB divided by 1024


class ResultsInvalidError(SwarmError):
    status = 422
    code = "results-invalid"
    title = "The file is not of the form of a results.tsv"


class ResultRow(NamedTuple):
    """One experiment of a session. `line` counts from 1, the header's; `metric` is None where nothing was measured.
    `commit` is as in the file, in lower case: a hash that may be short, `baseline`, or nothing."""

    line: int
    commit: str
    metric: float | None
    status: str
    outcome: RunOutcome
    description: str
    peak_memory_mib: int

    @property
    def is_kept(self) -> bool:
        return self.status in KEPT and self.metric is not None


class ResultsFile(NamedTuple):
    """A whole file. `lines` are its bytes, each with its line's end; `metric` is the metric's column; `unreadable` are
    the numbers of lines that are no experiments, with the reasons."""

    metric: str
    lines: list[bytes]
    rows: list[ResultRow]
    unreadable: dict[int, str]


class _RowProblem(Exception):
    """A line cannot be read; the message is a clause that says why."""


def parse_results(content: bytes) -> ResultsFile:
    """Read a file. Raises ResultsInvalidError where the header is not one."""
    lines = BytesIO(content).readlines()
    columns = _read_header(lines)
    rows: list[ResultRow] = []
    unreadable: dict[int, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            if row := _read_row(number, line, columns):
                rows.append(row)
        except _RowProblem as problem:
            unreadable[number] = str(problem)
    return ResultsFile(columns[1], lines, rows, unreadable)


def _read_header(lines: Sequence[bytes]) -> list[str]:
    try:
        text = lines[0].decode("utf-8-sig") if lines else ""
    except UnicodeDecodeError as error:
        raise ResultsInvalidError("Its first line is not UTF-8 text.") from error
    columns = [column.strip().lower() for column in text.rstrip("\r\n").split("\t")]
    if len(columns) < 4 or columns[0] != COMMIT or columns[-2:] != [STATUS, DESCRIPTION]:
        raise ResultsInvalidError(
            "Its first line must name the columns, separated by tabs: commit, the metric, any others, status, "
            f"description. It reads: {text.strip()[:200]!r}."
        )
    return columns


def _read_row(number: int, line: bytes, columns: Sequence[str]) -> ResultRow | None:
    """A row, or None for an empty line. Raises _RowProblem."""
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _RowProblem("it is not UTF-8 text") from error
    if not text.strip():
        return None
    cells = [cell.strip() for cell in text.split("\t", maxsplit=len(columns) - 1)]
    if len(cells) < len(columns):
        raise _RowProblem(f"it has {len(cells)} column{'' if len(cells) == 1 else 's'} instead of {len(columns)}")
    if [cell.lower() for cell in cells] == list(columns):
        raise _RowProblem("it is the header once more")
    named = dict(zip(columns, cells, strict=True))
    status = named[STATUS].lower()
    if not status:
        raise _RowProblem("it has no status")
    outcome = FAILURES.get(status, RunOutcome.OK)
    metric = None if outcome is not RunOutcome.OK else _read_metric(columns[1], cells[1])
    description = named[DESCRIPTION] or named[COMMIT] or status
    return ResultRow(
        number, named[COMMIT].lower(), metric, status, outcome, description, _read_memory(named.get(MEMORY, ""))
    )


def _read_metric(name: str, text: str) -> float:
    try:
        metric = float(text)
    except ValueError as error:
        raise _RowProblem(f"its {name} is not a number: {text[:40]!r}") from error
    if not isfinite(metric):
        raise _RowProblem(f"its {name} is {text}")
    return metric


def _read_memory(text: str) -> int:
    """Peak memory in MiB; 0 where it is not known."""
    try:
        gigabytes = float(text)
    except ValueError:
        return 0
    return round(gigabytes * MIB_PER_GB) if isfinite(gigabytes) and gigabytes > 0 else 0


def read_zeros_as_crashes(rows: Sequence[ResultRow], direction: Direction) -> list[ResultRow]:
    """The rows, with a metric of 0 as a failed run where less is better and no kept row has it."""
    if direction is Direction.MAXIMIZE or any(row.is_kept and row.metric == 0 for row in rows):
        return list(rows)
    return [row._replace(metric=None, outcome=RunOutcome.CRASHED) if row.metric == 0 else row for row in rows]


def find_direction(metric: str, rows: Sequence[ResultRow]) -> Direction:
    """Whether less is better, by what was kept and discarded, else by the metric's name; minimized without a sign."""
    votes = 0  # each measured row votes for less (+1) or for more (-1), compared with the last that was kept
    best: float | None = None
    for row in rows:
        if row.metric is not None and best is not None and row.metric != best:
            votes += 1 if (row.metric < best) == row.is_kept else -1
        if row.is_kept:
            best = row.metric
    if votes:
        return Direction.MINIMIZE if votes > 0 else Direction.MAXIMIZE
    is_higher = any(part in metric for part in HIGHER_IS_BETTER) and not any(part in metric for part in LOWER_IS_BETTER)
    return Direction.MAXIMIZE if is_higher else Direction.MINIMIZE
