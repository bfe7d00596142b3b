"""Files that are exported: how they are sent, and the lines of those that people open in spreadsheets."""

import csv
from collections.abc import Iterable
from io import StringIO

from fastapi.responses import StreamingResponse

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a text that spreadsheets would run."""


def send_file(chunks: Iterable[str] | Iterable[bytes], name: str, media_type: str) -> StreamingResponse:
    """A file that is sent while it is written."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-cache"}
    return StreamingResponse(chunks, media_type=media_type, headers=headers)


def write_line(cells: Iterable[object]) -> str:
    """A line of cells. No spreadsheet takes a text among them for a formula; None is an empty cell."""
    line = StringIO()
    csv.writer(line).writerow([_guard(cell) for cell in cells])
    return line.getvalue()


def _guard(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULAS) else cell
