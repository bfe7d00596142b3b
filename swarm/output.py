"""What commands print: tables and text for people, JSON lines for pipes."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.protocol import Message

ALL = "all"

Json = dict[str, Any]


class FieldUnknown(Exception):
    """`--json` names a field that there is not; the message says which there are."""


def write_json(rows: Iterable[Message], fields: str) -> None:
    """A JSON document a line; `fields` are names separated by commas, such as `id,posterior.effect_mean`, or `all`.

    Raises FieldUnknown.
    """
    names = None if fields == ALL else [name.strip() for name in fields.split(",")]
    for row in rows:
        document = row.model_dump(mode="json")
        chosen = document if names is None else {name: _look_up(document, name) for name in names}
        sys.stdout.write(json.dumps(chosen, ensure_ascii=False) + "\n")


def _look_up(document: Json, name: str) -> Any:
    """A field, or one within another: `posterior.runs`. Below null everything is null."""
    value: Any = document
    for part in name.split("."):
        if value is None:
            return None
        if not isinstance(value, dict) or part not in value:
            known = ", ".join(value) if isinstance(value, dict) else "none"
            raise FieldUnknown(f"--json: there is no field {name!r}. There are: {known}.")
        value = value[part]
    return value


def make_table(*columns: str) -> Table:
    """A table without lines. A column that begins with `>` is of numbers, one with `*` may be broken."""
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in columns:
        kind, name = (column[0], column[1:]) if column[0] in ">*" else ("", column)
        if kind == "*":
            table.add_column(name, overflow="fold", ratio=1)
        else:
            table.add_column(name, justify="right" if kind else "left", no_wrap=True)
    return table


def add_row(table: Table, cells: Sequence[object]) -> None:
    """Cells as they are: no text of theirs is read as markup."""
    table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells))


def print_rows(table: Table, nothing: str) -> None:
    """The table, or a sentence on stderr where it has no rows."""
    if table.row_count:
        Console().print(table)
    else:
        typer.echo(nothing, err=True)
