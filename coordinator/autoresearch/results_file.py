"""Reads a session's log into rows: what was measured, what became of it, and what it says of itself."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from math import inf
from typing import NamedTuple

from coordinator.autoresearch.columns import (
    HASH,
    NO,
    WORDS,
    YES,
    ColumnRole,
    asks_if_kept,
    find_columns,
    find_metric_name,
    is_header,
)
from coordinator.autoresearch.directions import SHARES, SIGNED, read_goal, split_goal, words_of_name
from coordinator.autoresearch.numbers import (
    MISSING,
    NOT_FINITE,
    ZONED,
    find_sentinels,
    find_unit,
    has_decimal_commas,
    has_remark,
    read_memory,
    read_number,
    read_time,
)
from coordinator.autoresearch.statuses import ENDED, FAILURES, Fate, name_counts, read_status, read_statuses
from coordinator.autoresearch.tables import DELIMITERS, LogRow, LogTable, read_log
from coordinator.findings.axes import name_key, words_of
from coordinator.findings.steps import NO_AXIS, SEED, read_change
from shared.contract import Direction
from shared.protocol import MAX_COUNT, MAX_READING, now
from shared.runs import RunOutcome

MAX_FURTHER = 40
"""Number of further metrics of a row that are kept."""

MAX_NAME = 40
CLOCKS_DIFFER = timedelta(days=1)
"""By how much a time may be ahead of ours: what has no zone is taken as UTC."""

SUMS = frozenset((
    "total", "totals", "sum", "mean", "average", "avg", "median", "best", "min", "max", "overall", "summary", "std",
    "count",
))  # fmt: skip
"""Words in the place of a row's commit or number that name no experiment, but several together."""

SIGNS = "+-\N{MINUS SIGN}"
MAX_WORDS = 1_000  # characters of a description, of which one says that it measures again
BASELINE, MEASURED = "baseline", "measured"
_REPEAT = re.compile(
    r"\b(re-?run|re-?measur\w+|repeat(ed|s)?( (run|of|the)\b|$|:)|replicat\w*|repro(duc\w*)?\d*|seeds?\b|sanity|"
    r"noise (check|floor))"
    r"|\b(baseline|same|config|best|measured?|runs?|ran|trained) again\b|^again\b|^(re-?)?confirm\w*\b"
    r"|(?<![\w-])verif(y|ied|ication run)\b|^verification\b",
    re.IGNORECASE,
)
_BY_POINTS, _WHOLE = re.compile(r"\D?\d{1,3}(\.\d{3})+,\d"), re.compile(r"[-+]?\d{1,3}(\.\d{3})+")
_SETTING = re.compile(r"(params?|parameters?|config|hparams?)[\s_./]+")
_OF_BEST = words_of("best current random check config confirm final")
"""Stems of words that name no other code than the best so far."""

RUN_WORDS = frozenset((
    "run", "runs", "job", "date", "day", "time", "start", "end", "id", "host", "node", "user", "machine", "gpu",
    "device", "worker", "agent",
))  # fmt: skip
"""Words in the name of a column that says when, where or by whom something was run, and not what."""


@dataclass(frozen=True)
class ReadingOptions:
    """Columns as `role=NAME` and the fates of statuses, where a person said them; and the metric of the project, where
    a part of the log was imported before, as its contract spells it."""

    columns: Sequence[str] = ()
    statuses: Mapping[Fate, Sequence[str]] = field(default_factory=dict)
    metric: str = ""


class ResultRow(NamedTuple):
    """One experiment of a session. `line` counts from 1, the header's; `metric` is None where nothing was measured,
    and then `reason` says why. `commit` is as in the file, in lower case: a hash that may be short, or anything else.

    `before` is the metric before the change, `further` are all other numbers by name. None is what is not known.
    """

    line: int
    commit: str
    metric: float | None
    status: str
    fate: Fate
    outcome: RunOutcome
    description: str
    reason: str = ""
    peak_memory_mib: int | None = None
    label: str = ""
    parent: str = ""
    group: str = ""
    before: float | None = None
    further: Mapping[str, float] = {}
    seed: int | None = None
    steps: int | None = None
    at: datetime | None = None
    author: str = ""
    hypothesis: str = ""
    mechanism: str = ""
    follow_ups: str = ""

    @property
    def may_be_hash(self) -> bool:
        """Whether the row names a commit by a hash: a short one only where the log has a column of commits."""
        return self.commit != self.label or (bool(HASH.fullmatch(self.commit)) and not self.commit.isdigit())

    @property
    def is_kept(self) -> bool:
        return self.fate == Fate.KEPT and self.metric is not None

    @property
    def is_baseline(self) -> bool:
        return BASELINE in (self.status, self.commit) or self.description.lower().startswith(BASELINE)

    @property
    def is_repeat(self) -> bool:
        """Whether the row says that it measures again what was there."""
        words = self.description[:MAX_WORDS]
        return bool(_REPEAT.search(words)) and read_change(words).axis in (NO_AXIS, SEED)

    @property
    def is_bare_repeat(self) -> bool:
        """Whether nothing else is said than that what was best was measured again."""
        return self.is_repeat and not any(map(str.isalpha, name_key(_REPEAT.sub(" ", self.description)) - _OF_BEST))


class ResultsFile(NamedTuple):
    """A whole file. `lines` are its bytes, each with its line's end; `metric` is the metric's name; `unreadable` are
    the numbers of lines that are no experiments, with the reasons; `account` says how it was read, in sentences;
    `has_status` says whether rows say what became of them, `direction` what the file says is better, `decimal_comma`
    that a comma begins the fraction of a number."""

    metric: str
    unit: str
    lines: list[bytes]
    rows: list[ResultRow]
    unreadable: dict[int, str]
    account: list[str]
    has_status: bool = True
    direction: Direction | None = None
    decimal_comma: bool = False


class _RowProblem(Exception):
    """A line cannot be read; the message is a clause that says why."""


def parse_results(content: bytes, options: ReadingOptions = ReadingOptions()) -> ResultsFile:
    """Read a file. Raises ResultsInvalidError."""
    table = read_log(content, partial(is_header, given=options.columns))
    columns = find_columns(table, options.columns, options.metric)
    return _Reader(_join_thousands(table, columns[ColumnRole.METRIC]), columns, options).read()


def _join_thousands(table: LogTable, metric: str) -> LogTable:
    """The table, with `13.100` as a whole number where another one, as `12.345,5`, shows that points part thousands."""
    if not any(_BY_POINTS.match(record.cells.get(metric, "")) for record in table.records):
        return table
    records = [
        LogRow(
            line,
            {**cells, metric: cells[metric].replace(".", "")} if _WHOLE.fullmatch(cells.get(metric, "")) else cells,
        )
        for line, cells in table.records
    ]
    return table._replace(records=records)


class _Reader:
    """Reads the rows of one table, whose columns are known."""

    def __init__(self, table: LogTable, columns: dict[ColumnRole, str], options: ReadingOptions) -> None:
        self._table, self._columns = table, columns
        self._records = [record for record in table.records if columns[ColumnRole.METRIC] in record.cells]
        own = [name for record in self._records if (name := self._find_name(record)) not in SUMS]
        self._has_sums = 2 * sum(any(map(str.isdigit, name)) for name in own) > len(own)
        self._records = [record for record in self._records if not self._is_sum(record)]
        texts = [self._cell(record, ColumnRole.METRIC) for record in self._records]
        self._decimal_comma = has_decimal_commas(texts, is_european=table.form == DELIMITERS[";"])
        self._unit = self._find_unit(columns[ColumnRole.METRIC])
        given = next((text.partition("=")[2] for text in options.columns if text.startswith("metric=")), options.metric)
        self._name = ""
        self._name = find_metric_name(table, given) or self._find_most(ColumnRole.METRIC_NAME)
        self._has_status = bool(columns[ColumnRole.STATUS])
        self._statuses = self._count_statuses()
        bits = {Fate.KEPT: YES, Fate.DISCARDED: NO} if asks_if_kept(columns[ColumnRole.STATUS]) else {}
        said = {fate: [*bits.get(fate, ()), *options.statuses.get(fate, ())] for fate in Fate}
        self._fates = read_statuses(self._statuses, said)
        words, kept = {*words_of_name(self._name or columns[ColumnRole.METRIC])}, self._list_kept()
        self._sentinels = find_sentinels(texts, kept, is_signed=not words.isdisjoint(SIGNED))
        self._is_minus_one_kept = -1.0 in find_sentinels(texts, kept) - self._sentinels
        found = {
            text: number.value for text in texts if (number := read_number(text, decimal_comma=self._decimal_comma))
        }
        is_share = [0 <= found[text] <= 1 for text in texts if text in found]
        self._are_shares = not words.isdisjoint(SHARES) and 2 * sum(is_share) > len(is_share)
        self._has_differences = {"", "+"} <= {text[0] if text[0] in SIGNS else "" for text in found if found[text]}
        taken = {columns[role] for role in columns if role != ColumnRole.BEFORE}
        named = [name for name in table.columns if name not in taken and self._has_numbers(name)]
        named.sort(key=lambda name: -sum(cell != "" for cell in self._list_cells(name)))
        self._further = {name: self._find_unit(name) for name in named[:MAX_FURTHER]}
        used = {*columns.values(), *named}
        self._unused = [name for name in table.columns if name not in used and any(self._list_cells(name))]
        self._latest = now() + CLOCKS_DIFFER
        self._too_many = len(named) - len(self._further)
        cells = {name: set(self._list_cells(name)) for name in table.columns}
        self._settings = [name for name in table.columns if _SETTING.match(name) and len(cells[name]) > 1]
        self._subjects = [name for name in self._unused if self._is_category(name, cells[name])]
        self._alike = self._list_alike()

    def _is_category(self, column: str, cells: set[str]) -> bool:
        """Whether a column has a few words again and again that are no verdicts, as `dataset` or `model` have."""
        is_few = 1 < len(cells) <= len(self._records) / 2
        return is_few and RUN_WORDS.isdisjoint(words_of_name(column)) and not any(map(read_status, cells))

    def _list_alike(self) -> dict[tuple[str, str], list[str]]:
        """By commit and description of several rows, the categories that tell them apart."""
        cells: dict[tuple[str, str], dict[str, set[str]]] = {}
        for record in self._records if self._subjects else ():
            found = cells.setdefault(self._say(record), {name: set() for name in self._subjects})
            for name, known in found.items():
                known.add(record.cells.get(name, ""))
        return {said: differ for said, found in cells.items() if (differ := [n for n in found if len(found[n]) > 1])}

    def _say(self, record: LogRow) -> tuple[str, str]:
        return self._cell(record, ColumnRole.COMMIT), self._cell(record, ColumnRole.DESCRIPTION)

    def _list_cells(self, column: str) -> list[str]:
        return [record.cells.get(column, "") for record in self._records]

    def _find_name(self, record: LogRow) -> str:
        """The commit or the label of a row, else what stands first in it, but for a status or a text."""
        said = {self._columns.get(role) for role in (ColumnRole.STATUS, ColumnRole.DESCRIPTION, ColumnRole.METRIC)}
        names = (self._columns.get(ColumnRole.COMMIT), self._columns.get(ColumnRole.LABEL), self._table.columns[0])
        cells = (record.cells.get(name, "") for name in names if name and name not in said)
        return next((text.lower() for cell in cells if (text := cell.strip("`* :"))), "")

    def _is_sum(self, record: LogRow) -> bool:
        """Whether a row names none, where the others have hashes or numbers."""
        return self._has_sums and self._find_name(record) in SUMS

    def _read_time(self, record: LogRow) -> datetime | None:
        """The row's time; None where it lies in the future, too."""
        moment = read_time(self._cell(record, ColumnRole.TIME))
        return moment if moment is not None and moment < self._latest else None

    def _find_most(self, role: ColumnRole) -> str:
        """The most frequent text of a role's column in rows of the metric, once that is known; empty without one."""
        own = [one for one in self._records if self._name in ("", self._cell(one, ColumnRole.METRIC_NAME))]
        found = Counter(text for record in own if (text := self._cell(record, role)))
        return found.most_common(1)[0][0] if found else ""

    def _find_unit(self, column: str) -> str:
        cells = (record.cells.get(column, "") for record in self._records)
        return find_unit(n for cell in cells if (n := read_number(cell, decimal_comma=self._decimal_comma)))

    def _list_kept(self) -> set[float]:
        """The metrics of rows of which it is said that they were kept, and not only that they ended."""
        said = {status for status, fate in self._fates.items() if fate == Fate.KEPT and status not in ENDED}
        kept = (one for one in self._records if self._cell(one, ColumnRole.STATUS).lower() in said)
        return {number for one in kept if (number := self._number(one, ColumnRole.METRIC)) is not None}

    def _count_statuses(self) -> Counter[str]:
        """Statuses of the records with a number, or a word for none, or that failed: others are of something else."""
        found = Counter[str]()
        for record in self._records:
            status, text = self._cell(record, ColumnRole.STATUS).lower(), self._cell(record, ColumnRole.METRIC)
            is_row = text.lower() in MISSING | NOT_FINITE or read_number(text, decimal_comma=self._decimal_comma)
            fate = read_status(status)
            if status and (is_row or (fate and (fate.outcome != RunOutcome.OK or read_status(text) in FAILURES))):
                found[status] += 1
        are_numbers = asks_if_kept(self._columns[ColumnRole.STATUS]) or all(map(read_number, found))
        return found if are_numbers else Counter({s: n for s, n in found.items() if read_number(s) is None})

    def read(self) -> ResultsFile:
        rows, unread, lines = list[ResultRow](), dict(self._table.unread), dict[tuple[str, ...], int]()
        for record in self._table.records:
            try:
                row = self._tell_apart(record, self._read_row(record))
                first = lines.setdefault(tuple(record.cells.values()), row.line)
                if first != row.line and (row.metric or 0) % 1 and not row.is_repeat:
                    raise _RowProblem(f"it is line {first} once more, to the last digit")
                rows.append(row)
            except _RowProblem as problem:
                unread[record.line] = str(problem)
        metric, goal = split_goal(self._columns[ColumnRole.METRIC])
        name = self._name or ("metric" if metric.startswith("column ") else metric)
        is_reversed = is_newest_first(rows)
        if is_reversed:
            rows.reverse()
        account = [*self._account(rows), *([NEWEST_FIRST] if is_reversed else [])]
        return ResultsFile(
            name, self._unit or self._find_most(ColumnRole.UNIT), self._table.lines, rows, dict(sorted(unread.items())),
            account, self._has_status, read_goal(self._find_most(ColumnRole.DIRECTION)) or goal, self._decimal_comma,
        )  # fmt: skip

    def _tell_apart(self, record: LogRow, row: ResultRow) -> ResultRow:
        """The row, with its categories in brackets where another row has the same words and others of them."""
        names = () if row.is_repeat else self._alike.get(self._say(record), ())
        told = ", ".join(f"{name} {cell}" for name in names if (cell := record.cells.get(name, "")))
        return row._replace(description=f"{row.description} ({told})") if told else row

    def _account(self, rows: Sequence[ResultRow]) -> list[str]:
        roles = ", ".join(f"{role} = {name}" for role, name in self._columns.items() if name)
        named = [f"{name} in {unit}" if unit else name for name, unit in self._further.items()]
        named += [f"and {self._too_many} more, which are left out"] if self._too_many else []
        further = f"; further metrics: {', '.join(named)}" if named else ""
        told = [name for name in self._subjects if any(name in names for names in self._alike.values())]
        further += f"; told apart by: {', '.join(told)}" if told else ""
        unread = [name for name in self._unused if name not in told]
        further += f"; not read: {', '.join(unread)}" if unread else ""
        lines = [f"Form: {self._table.form}.", *self._table.notes, f"Columns: {roles}{further}."]
        measured = Counter(self._cell(record, ColumnRole.METRIC_NAME) for record in self._records)
        others = [name for name in measured if name not in ("", self._name)]
        if others:
            lines.append(
                f"Metrics: {self._name} ({measured[self._name]}). Not read: {name_counts(measured, others)}; "
                "--column metric=NAME takes another one."
            )
        by_fate: dict[Fate, list[str]] = {}
        for status, count in self._statuses.most_common():
            by_fate.setdefault(self._fates[status], []).append(f"{status} ({count})")
        if not self._has_status:
            lines.append("Statuses: none. A row counts as kept where its metric is better than all before it.")
        else:
            lines.append(
                "Statuses: " + "; ".join(f"{fate}: {', '.join(names)}" for fate, names in by_fate.items()) + "."
            )
        if self._decimal_comma:
            lines.append("A comma begins the fraction of a number.")
        elif any("," in self._cell(record, ColumnRole.METRIC) for record in self._records):
            lines.append("A comma parts the thousands of a number.")
        cells = (self._cell(record, ColumnRole.METRIC) for record in self._records)
        remarks = [cell for cell in cells if has_remark(cell) and read_number(cell, decimal_comma=self._decimal_comma)]
        if remarks:
            lines.append(f"Read as its number alone: {', '.join(remarks[:3])}{', ...' if len(remarks) > 3 else ''}.")
        lines += [f"{value:g} stands for no result, and is read as a failure." for value in sorted(self._sentinels)]
        times = [cell for record in self._records if (cell := self._cell(record, ColumnRole.TIME))]
        if odd := sum(read_time(cell) is None for cell in times):
            lines.append(f"Times: {odd} of {len(times)} are in no form that is known, and stay empty.")
        if late := sum((moment := read_time(cell)) is not None and moment >= self._latest for cell in times):
            lines.append(f"Times: {late} of {len(times)} lie in the future, and stay empty.")
        if any(read_time(cell) and not ZONED.search(cell) for cell in times):
            lines.append("Times without a zone are taken as UTC.")
        if self._is_minus_one_kept:
            lines.append(f"-1 is read as a number: {self._columns[ColumnRole.METRIC]} may be below zero.")
        failed = Counter(
            status for record in self._records
            if self._fates.get(status := self._cell(record, ColumnRole.STATUS).lower()) == Fate.CRASHED
            and (self._number(record, ColumnRole.METRIC) or 0.0) not in {0.0, *self._sentinels}
        )  # fmt: skip
        if failed:
            lines.append(
                f"Failed with a number: {name_counts(failed, failed)}. It is not used; where it was measured, say "
                "--discarded and the status."
            )
        without = sum(row.fate == Fate.KEPT and row.metric is None for row in rows)
        if without:
            lines.append(f"Kept without a number: {without}. Their code counts, and nothing was measured.")
        return lines

    def _cell(self, record: LogRow, role: ColumnRole) -> str:
        return record.cells.get(self._columns.get(role, ""), "").strip()

    def _name_cell(self, record: LogRow, role: ColumnRole) -> str:
        """A name in lower case; empty where the log has a sign for none."""
        name = self._cell(record, role).strip("`* ").lower()
        return "" if name in MISSING else name

    def _describe_settings(self, record: LogRow) -> str:
        """`depth=8, lr=0.001`: the parameters that differ between rows, where columns are named as parameters."""
        cells = {_SETTING.sub("", name): record.cells.get(name, "") for name in self._settings}
        return ", ".join(f"{name}={cell}" for name, cell in cells.items() if cell)

    def _has_numbers(self, column: str) -> bool:
        return any(read_number(record.cells.get(column, "")) is not None for record in self._records)

    def _read_row(self, record: LogRow) -> ResultRow:
        """Raises _RowProblem."""
        metric_column = self._columns[ColumnRole.METRIC]
        if metric_column not in record.cells:
            raise _RowProblem(f"it belongs to another table, without {metric_column}")
        if (measured := self._cell(record, ColumnRole.METRIC_NAME)) and measured != self._name:
            raise _RowProblem(f"it measures {measured[:40]}, and others {self._name[:40]}")
        if self._is_sum(record):
            raise _RowProblem(f"it sums up other rows: {self._find_name(record)}")
        status = self._cell(record, ColumnRole.STATUS).lower() if self._has_status else MEASURED
        if not status:
            raise _RowProblem("it has no status")
        fate = self._fates.get(status) if self._has_status else Fate.DISCARDED
        if fate == Fate.NOT_RUN:
            raise _RowProblem(f"it was not run: {status}")
        metric, reason = self._read_metric(record, fate or Fate.DISCARDED)
        if fate is None:
            raise _RowProblem(f"its status is {status[:40]!r}")
        before = self._number(record, ColumnRole.BEFORE)
        if before == 0 and metric == 0:
            metric, reason = None, f"{metric_column} is 0, as before: nothing was measured"
        names = (ColumnRole.COMMIT, ColumnRole.LABEL, ColumnRole.PARENT)
        commit, label, parent = map(partial(self._name_cell, record), names)
        description = self._cell(record, ColumnRole.DESCRIPTION)
        if description.lower() in MISSING:  # the status would be the same words for many
            description = self._describe_settings(record) or label or commit or f"line {record.line}"
        outcome = fate.outcome if metric is None else RunOutcome.OK
        if metric is None and outcome == RunOutcome.OK:
            outcome = RunOutcome.CRASHED if fate == Fate.DISCARDED and reason else RunOutcome.INVALID
        further = {
            _name_further(name): number.value
            for name, unit in self._further.items()
            if (number := read_number(record.cells.get(name, ""), decimal_comma=self._decimal_comma))
            and abs(number.value) <= MAX_READING
            and number.unit == unit
        }
        number_over = self._number(record, ColumnRole.METRIC)
        if metric is None and fate == Fate.INVALID and number_over:
            further[_name_further(metric_column)] = number_over  # but not comparable
        seed, steps = self._number(record, ColumnRole.SEED), self._number(record, ColumnRole.STEPS)
        return ResultRow(
            record.line, commit or label, metric, status, fate, outcome, description, reason,
            read_memory(self._cell(record, ColumnRole.MEMORY), self._columns.get(ColumnRole.MEMORY, "")), label,
            parent, self._cell(record, ColumnRole.GROUP), before,
            dict(list(further.items())[:MAX_FURTHER]), int(seed) if seed is not None and 0 <= seed < 2**31 else None,
            int(steps) if steps is not None and 0 < steps <= MAX_COUNT else None,
            self._read_time(record),
            self._cell(record, ColumnRole.AUTHOR),
            *(cell if (cell := self._cell(record, role)).lower() not in MISSING else "" for role in WORDS),
        )  # fmt: skip

    def _read_metric(self, record: LogRow, fate: Fate) -> tuple[float | None, str]:
        """The metric, or None and the reason. Raises _RowProblem."""
        column, text = self._columns[ColumnRole.METRIC], self._cell(record, ColumnRole.METRIC)
        if fate.outcome != RunOutcome.OK:
            return None, ""
        if text.lower() in MISSING:
            return None, f"the session has no {column} for it"
        number = read_number(text, decimal_comma=self._decimal_comma)
        if text.lower() in NOT_FINITE or (number is None and read_status(text) in FAILURES):
            return None, f"its {column} is {text[:40]}"
        if number is None:
            raise _RowProblem(f"its {column} is not a number: {text[:40]!r}")
        if number.unit != self._unit:
            units = f"in {number.unit}" if number.unit else "without a unit"
            raise _RowProblem(f"its {column} is {units}, and others' in {self._unit or 'none'}")
        if self._has_differences and text[0] in SIGNS:
            raise _RowProblem(f"its {column} is a difference: {text[:40]!r}, and others' are values")
        if self._are_shares and number.value > 1:
            raise _RowProblem(f"its {column} is {text[:40]}, and most others' are shares of 1")
        if number.value in self._sentinels:
            return None, f"its {column} is {text}, which stands for no result"
        if abs(number.value) > MAX_READING:
            return None, f"its {column} is {text[:40]}, more than a measurement can be"
        return number.value, ""

    def _number(self, record: LogRow, role: ColumnRole) -> float | None:
        number = read_number(self._cell(record, role), decimal_comma=self._decimal_comma)
        return number.value if number else None


ODD = "its metric is "
NEWEST_FIRST = "Order: the newest row stands first, so the rows are read from the last one up."


def is_newest_first(rows: Sequence[ResultRow]) -> bool:
    """Whether rows go back in time: by their times, or else by their numbers, of which there are three or more."""
    times = [row.at.timestamp() for row in rows if row.at]
    orders = [times, [float(row.label) for row in rows if row.label.isdecimal()]]
    order = next((order for order in orders if len(order) > 2 and 2 * len(order) > len(rows)), [])
    return len({*order}) > 1 and order == sorted(order, reverse=True)


def _name_further(column: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_")[:MAX_NAME].rstrip("_") or "number"


def read_odd_as_crashes(rows: Sequence[ResultRow], direction: Direction) -> list[ResultRow]:
    """The rows, with a metric that cannot be one as a failed run. It is 0 where less is better and no kept row has it,
    and where all others are far above 0, or below it, and it is not said of a row with it that it was kept. It is below
    0 where less is better, only rows that were not kept have such a one, and others were kept. A baseline of 0 is one
    where more is better, unless its memory is missing beside others'; and so is 0 in a count without statuses."""
    kept = {row.status for row in rows if row.is_kept and row.metric == 0}
    others = [row.metric for row in rows if row.metric] or [0.0]
    is_far = min(others) > max(others) / 2 > 0 or max(others) < 0
    is_less = direction == Direction.MINIMIZE
    is_count = all(row.status == MEASURED and row.metric == int(row.metric) for row in rows if row.metric is not None)
    is_odd = not kept - ENDED and (is_far or (is_less and not kept and not is_count))
    has_memory = any(row.peak_memory_mib for row in rows)
    is_above = is_less and min((row.metric for row in rows if row.is_kept and row.metric is not None), default=0.0) > 0

    def is_start(row: ResultRow) -> bool:
        is_named = "baseline" in (row.status, *re.findall(r"[a-z]+", row.description.casefold())[:1])
        return not is_less and is_named and (bool(row.peak_memory_mib) or not has_memory)

    return [
        row._replace(metric=None, outcome=RunOutcome.CRASHED, reason=f"{ODD}{row.metric:g}")
        if row.metric is not None
        and ((row.metric == 0 and is_odd and not is_start(row)) or (row.metric < 0 and is_above))
        else row
        for row in rows
    ]


def keep_gains(rows: Sequence[ResultRow], direction: Direction) -> list[ResultRow]:
    """The rows of a log without statuses, with those as kept that are better than all before them."""
    sign, best, kept = 1.0 if direction == Direction.MINIMIZE else -1.0, inf, []
    for row in rows:
        is_gain = row.status == MEASURED and row.metric is not None and sign * row.metric < best
        best = sign * row.metric if is_gain and row.metric is not None else best
        kept.append(row._replace(fate=Fate.KEPT) if is_gain else row)
    return kept
