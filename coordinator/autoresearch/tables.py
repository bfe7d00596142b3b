"""Takes a session's log apart: tab- or comma-separated, JSON lines, with comments, quoted line ends, several tables.

Every line is kept as its bytes, so that the file can be exported unchanged; a line that is no record has a reason.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from itertools import pairwise
from typing import NamedTuple

from coordinator.autoresearch.numbers import read_number
from coordinator.http.errors import SwarmError

DELIMITERS = {"\t": "tab-separated", ",": "comma-separated", ";": "semicolon-separated", "|": "separated by |"}
MAX_JOINED = 50
"""Number of lines over which a quoted cell may go."""

CONFIG = re.compile(r"param|config|setting|args|option|change|env", re.IGNORECASE)
"""Names of JSON objects that hold what was set, and not what was measured."""

HEADING = {"metricname": "metric_name", "bestdirection": "metric_direction", "metricunit": "metric_unit",
           "name": "session"}  # fmt: skip
"""Columns of rows, by the fields of the object that stands above them in logs of pi-autoresearch."""

PARAMETERS = "params"
MAX_COLUMNS, MAX_NAME = 1_000, 200
_KEY = re.compile(r'"([^"\\]*)"\s*:\s*$')

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_MARKUP = re.compile(r"\[([^]]*)\]\([^)]*\)|\*\*(.+?)\*\*")  # links and bold text of a table in Markdown
_RULE = re.compile(r"^[\s|:=_*-]*$")


class ResultsInvalidError(SwarmError, status=422, title="The session's results cannot be read"):
    pass


class LogRow(NamedTuple):
    """A row as written: its first line, counted from 1, and its cells by column."""

    line: int
    cells: dict[str, str]


_Path = tuple[str, ...]
_Found = tuple[int, dict[_Path, str]]
"""The line of a JSON object, and its values by the names on the way to them."""


class LogTable(NamedTuple):
    """A log as taken apart. `form` says how, in words; `columns` are the names of its table, `notes` what was passed
    over, and `unread` the numbers of lines that are no records, with the reasons."""

    form: str
    lines: list[bytes]
    columns: list[str]
    records: list[LogRow]
    notes: list[str]
    unread: dict[int, str]


IsHeader = Callable[[Sequence[str]], bool]


def read_log(content: bytes, is_header: IsHeader) -> LogTable:
    """Take a file apart. `is_header` tells whether cells are names of columns. Raises ResultsInvalidError."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ResultsInvalidError("It is UTF-16 text. Save it as UTF-8 and import it again.")
    if content.count(b"\r") > 1 and b"\n" not in content:
        raise ResultsInvalidError("Its lines end in carriage returns alone. Save it with line feeds, and import that.")
    lines = BytesIO(content).readlines()
    texts, unread = _decode(lines)
    if len(unread) > len(texts):
        raise ResultsInvalidError(
            "Most of its lines are no UTF-8 text. Save it as text in UTF-8: as TSV, CSV or JSON lines."
        )
    first = next((text.strip() for text in texts.values() if text.strip()), "")
    if not first:
        raise ResultsInvalidError("It is empty.")
    if first[0] == "{" or re.match(r"\[\s*(\{|$)", first):
        return _read_json(lines, texts, unread)
    return _read_delimited(lines, texts, unread, is_header)


def _decode(lines: Sequence[bytes]) -> tuple[dict[int, str], dict[int, str]]:
    texts, unread = dict[int, str](), dict[int, str]()
    for number, line in enumerate(lines, start=1):
        try:
            texts[number] = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            texts[number] = _CONTROLS.sub("", texts[number])
        except UnicodeDecodeError:
            unread[number] = "it is not UTF-8 text"
    return texts, unread


def _read_json(lines: list[bytes], texts: dict[int, str], unread: dict[int, str]) -> LogTable:
    found: list[_Found] = []
    for number, text in texts.items():
        document = text.strip().strip("[], ")  # a list's own brackets may stand around the objects
        if not document:
            continue
        try:
            value = json.loads(document)
            if isinstance(value, dict):
                found.append((number, dict(_list_cells(value))))
            else:
                unread[number] = "it is JSON, but no object"
        except (ValueError, RecursionError):  # a number of thousands of digits is a ValueError
            unread[number] = "it is not a JSON document on one line"
    form = "JSON, one object a line"
    if unread or len(found) < 2:
        _refuse_columns("\n".join(texts.values()))
        whole = list(_list_objects("\n".join(texts.get(number, "") for number in range(1, len(lines) + 1))))
        is_apart = len({line for line, _ in whole}) == len(whole)
        if not is_apart and len(found) < 2:
            raise ResultsInvalidError(
                "A line has several JSON objects. Write each on lines of its own, as `jq . FILE` does."
            )
        if is_apart and len(whole) > len(found):
            found, unread, form = whole, {}, "JSON, a list of objects"
    if not any(cells for _, cells in found):
        raise ResultsInvalidError("It is JSON, but has no object that can be read.")
    found, headings = _spread_headings(found)
    fields = Counter(path for _, cells in found for path in cells)
    kept = {path for path, _ in fields.most_common(MAX_COLUMNS)}
    names = _name_paths([path for path in fields if path in kept])
    blank = dict.fromkeys(names.values(), "")
    records = [
        LogRow(line, blank | {names[path]: cell for path, cell in cells.items() if path in kept})
        for line, cells in found
    ]
    notes = [f"Its objects have {len(fields):,} different fields; the rarest are left out."] * (len(kept) < len(fields))
    return LogTable(form, lines, list(blank), records, notes, dict(sorted((unread | headings).items())))


def _spread_headings(found: Sequence[_Found]) -> tuple[list[_Found], dict[int, str]]:
    """The objects that are rows, each with what the heading above it says of all that follow; and the headings."""
    above: dict[_Path, str] = {}
    rows, headings = list[_Found](), dict[int, str]()
    for line, cells in found:
        if cells.get(("type",)) == "config" and ("metricname",) in cells:
            above = {(name,): cells[said,] for said, name in HEADING.items() if cells.get((said,))}
            headings[line] = f"it is the heading of lines that measure {cells['metricname',][:MAX_NAME]}"
        else:
            rows.append((line, above | cells))
    return rows, headings


def _refuse_columns(text: str) -> None:
    """Raises ResultsInvalidError where a document has a list for each column."""
    with suppress(ValueError, RecursionError):
        document = json.loads(text)
        if isinstance(document, dict) and _holds_columns(document):
            raise ResultsInvalidError(
                "Its JSON holds columns. Write an object for each row, as "
                "`pandas.read_json(FILE).to_json(OTHER, orient='records', lines=True)` does."
            )


def _list_objects(text: str) -> Iterator[_Found]:
    """The objects of a document that does not have one a line, except those that hold rows."""
    decoder, at, line, failures, is_named = json.JSONDecoder(), 0, 1, 0, False
    while (start := text.find("{", at)) >= 0 and failures < MAX_JOINED:
        line += text.count("\n", at, start)
        at = start + 1
        try:
            found, end = decoder.raw_decode(text, start)
            cells = dict(_list_cells(found))
        except (ValueError, RecursionError):
            failures += 1
            continue
        if _has_named_rows(found):
            is_named = True
        elif not _holds_rows(found):
            name = _KEY.search(text, max(0, start - MAX_NAME), start) if is_named else None
            yield line, ({("label",): name[1]} if name else {}) | cells
            line, at = line + text.count("\n", start, end), end


def _holds_rows(found: dict[str, object]) -> bool:
    """Whether rows stand in an object's lists, or in those of the objects that it has nothing but, as of days."""
    values = found.values()
    if any(isinstance(value, list) and any(isinstance(one, dict) for one in value) for value in values):
        return True
    objects = [value for value in values if isinstance(value, dict)]
    return len(objects) == len(found) and any(map(_holds_rows, objects))


def _holds_columns(found: dict[str, object]) -> bool:
    """Whether an object has nothing but columns: lists of one length, or objects whose fields are rows' numbers."""
    lengths = {len(value) if isinstance(value, list) else 0 for value in found.values()}
    if len(found) > 1 and len(lengths) == 1 and lengths.pop() > 1:
        return True
    columns = [value for value in found.values() if isinstance(value, dict) and value]
    return len(columns) == len(found) > 1 and all(name.isdecimal() for column in columns for name in column)


def _has_named_rows(found: dict[str, object]) -> bool:
    """Whether an object has nothing but rows, by their names: objects with fields in common, and texts among these."""
    rows = [value for value in found.values() if isinstance(value, dict)]
    common = set(rows[0]).intersection(*rows) if len(rows) == len(found) > 1 else set()
    return len(common) > 1 and any(isinstance(rows[0][name], str) for name in common)


def _name_columns(cells: Sequence[str]) -> list[str]:
    """Names of columns, each one different."""
    names: list[str] = []
    for number, cell in enumerate(cells, start=1):
        name = clean_name(cell) or ("number" if "#" in cell else f"column {number}")
        names.append(name if name not in names else f"{name} {number}")
    return names


def _list_cells(found: dict[str, object], above: _Path = ()) -> Iterator[tuple[_Path, str]]:
    """Values as text by their paths, in which an object of what was set is named as parameters."""
    for name, value in found.items():
        if isinstance(value, dict):
            yield from _list_cells(value, (*above, PARAMETERS if CONFIG.search(name) else clean_name(name)))
        elif isinstance(value, bool | list):
            yield (*above, clean_name(name)), json.dumps(value)
        else:
            yield (*above, clean_name(name)), "" if value is None else str(value)


def _name_paths(paths: Collection[_Path]) -> dict[_Path, str]:
    """Names of columns: the last part of a path, with as many before it as tell it from others."""
    ends = Counter((PARAMETERS in path, path[-size:]) for path in paths for size in range(1, len(path) + 1))
    names = {}
    for path in paths:
        is_set = PARAMETERS in path
        size = next((size for size in range(1, len(path)) if ends[is_set, path[-size:]] == 1), len(path))
        parts = [part for part in path[-size:] if part != PARAMETERS]
        names[path] = " ".join([*([PARAMETERS] if is_set else []), *parts])
    return names


def clean_name(name: str) -> str:
    """A column's name as it is compared; what has a Greek delta before it is a difference."""
    plain = re.sub("[\N{GREEK CAPITAL LETTER DELTA}\N{INCREMENT}]", " delta ", name[:MAX_NAME])
    return " ".join(plain.strip().strip("#*`\"'").lower().split())


def _read_delimited(lines: list[bytes], texts: dict[int, str], unread: dict[int, str], is_header: IsHeader) -> LogTable:
    delimiter, start = _find_header(texts, is_header)
    if start is None:
        columns = [f"column {number}" for number in range(1, _count_columns(texts, delimiter) + 1)]
        notes = ["It has no header; its columns are known by what stands in them."]
    else:
        columns = _name_columns(split_cells(texts[start], delimiter))
        notes = [
            f"Two columns are named {first}; that in place {number} is called {name}."
            for number, name in enumerate(columns, start=1)
            if (first := name.removesuffix(f" {number}")) != name and first in columns[: number - 1]
        ]
        for number, text in texts.items():
            if number < start and text.strip():
                unread[number] = "it stands above the header"
    described = next((name for name in ("description", "desc") if name in columns), columns[-1])
    records: list[LogRow] = []
    current = columns
    rows = {number: text for number, text in texts.items() if number > (start or 0)}
    ruled = {number for (number, _), (_, below) in pairwise(rows.items()) if delimiter == "|" and _is_rule(below)}
    for number, text, cells in _join_quoted(rows, delimiter, len(columns)):
        if not text.strip():
            continue
        if text.lstrip().startswith("#") and len(cells) < len(columns):
            unread[number] = "it is a comment"
        elif _RULE.match(text):
            unread[number] = "it is a line between tables"
        elif len(cells) > 1 and (number in ruled or is_header(cells)):
            current = _name_columns(cells)
            unread[number] = "it is the header once more" if current == columns else "it is the header of another table"
            if set(columns) < set(current):  # columns were added later
                columns = [*columns, *(name for name in current if name not in columns)]
        elif len(cells) < len(current):
            unread[number] = f"it has {len(cells)} column{'' if len(cells) == 1 else 's'} instead of {len(current)}"
        else:
            fitted = _fit(cells, len(current), current.index(described) if described in current else -1, delimiter)
            records.append(LogRow(number, {name: cell.strip() for name, cell in zip(current, fitted, strict=True)}))
    return LogTable(DELIMITERS[delimiter], lines, columns, records, notes, unread)


def _is_rule(text: str) -> bool:
    """Whether a line stands below the header of a table in Markdown."""
    return "--" in text and _RULE.match(text) is not None


def _find_header(texts: dict[int, str], is_header: IsHeader) -> tuple[str, int | None]:
    """The delimiter, and the header's line: the first that is one, by the delimiter that makes most of it."""
    for number, text in texts.items():
        split = {delimiter: split_cells(text, delimiter) for delimiter in DELIMITERS}
        fitting = [delimiter for delimiter, cells in split.items() if len(cells) > 1 and is_header(cells)]
        if fitting:
            return max(fitting, key=lambda delimiter: len(split[delimiter])), number
    rows = {number: text for number, text in texts.items() if text.strip()}
    delimiter = max(DELIMITERS, key=lambda delimiter: sum(delimiter in text for text in rows.values()))
    (first, names), *rest = ((number, split_cells(text, delimiter)) for number, text in rows.items())
    has_names = len({*names}) == len(names) > 1 and not any(map(read_number, names))
    is_named = has_names and any(read_number(cell) for _, cells in rest[:1] for cell in cells)
    return delimiter, first if is_named else None


def _count_columns(texts: dict[int, str], delimiter: str) -> int:
    """How many columns most rows have."""
    counts = [len(split_cells(text, delimiter)) for text in texts.values() if text.strip()]
    return max(set(counts), key=counts.count)


def split_cells(text: str, delimiter: str) -> list[str]:
    """The cells of a line. A quote that is not closed, or stands amid a cell, is a character as any other."""
    if delimiter == "|" and text.strip().startswith("|"):
        text = _MARKUP.sub(r"\1\2", text.strip().strip("|"))
        return [cell.replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", text)]
    if '"' in text:
        try:
            return next(csv.reader([text], delimiter=delimiter, strict=True))
        except (csv.Error, StopIteration):
            pass
    return text.split(delimiter)


def _join_quoted(texts: dict[int, str], delimiter: str, width: int) -> Iterator[tuple[int, str, list[str]]]:
    """Each row with its first line; a cell in quotes may go over several lines, if these make `width` cells."""
    numbers, at = list(texts), 0
    while at < len(numbers):
        some = [texts[number] for number in numbers[at : at + MAX_JOINED]]
        count, cells = _join_first(some, delimiter, width)
        yield numbers[at], some[0], cells
        at += count


def _join_first(texts: Sequence[str], delimiter: str, width: int) -> tuple[int, list[str]]:
    """How many of the lines make the first row, and its cells."""
    whole = texts[0]
    for count in range(2, len(texts) + 1) if whole.count('"') % 2 else ():
        whole += "\n" + texts[count - 1]
        if whole.count('"') % 2 == 0:
            cells = _split_whole(whole, delimiter)
            if len(cells) == width:
                return count, cells
            break
    return 1, split_cells(texts[0], delimiter)


def _split_whole(text: str, delimiter: str) -> list[str]:
    try:
        rows = list(csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True))
    except csv.Error:
        return []
    return rows[0] if len(rows) == 1 else []


def _fit(cells: list[str], width: int, described: int, delimiter: str) -> list[str]:
    """As many cells as there are columns: what is too many belongs to the description, which held the delimiter."""
    surplus = len(cells) - width
    if surplus <= 0 or described < 0:
        return cells[:width]
    end = described + surplus + 1
    return [*cells[:described], delimiter.join(cells[described:end]), *cells[end:]]
