"""Keyset paging: a cursor is opaque to the client, and holds the id after which the next page begins."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypeVar

from fastapi import Depends, Path, Query

from coordinator.http.errors import SwarmError
from shared.protocol import Page

Row = TypeVar("Row")
_ID_CURSOR = re.compile(rb"before:(\d{1,18})")
_SHA_CURSOR = re.compile(rb"from:([0-9a-f]{40})")
_MOMENT_CURSOR = re.compile(rb"seen:([0-9T:.+-]{19,40}\+00:00:\d{1,9})")
_Given = Annotated[str | None, Query(description="`next_cursor` of the page before")]


class CursorInvalidError(SwarmError):
    status = 422
    code = "cursor-invalid"
    title = "The cursor is not one that this API gave"


def encode_cursor(row_id: int) -> str:
    return urlsafe_b64encode(f"before:{row_id}".encode()).decode()


def encode_sha_cursor(sha: str) -> str:
    return urlsafe_b64encode(f"from:{sha}".encode()).decode()


def encode_moment_cursor(moment: datetime, row_id: int) -> str:
    return urlsafe_b64encode(f"seen:{moment.isoformat()}:{row_id}".encode()).decode()


def decode_moment_cursor(cursor: str) -> tuple[datetime, int]:
    """The moment and the id of a cursor. Raises CursorInvalidError."""
    moment, _, row_id = _decode(cursor, _MOMENT_CURSOR).rpartition(":")
    try:
        return datetime.fromisoformat(moment), int(row_id)
    except ValueError:
        raise CursorInvalidError("Use the `next_cursor` of the page before, or none for the first page.") from None


def decode_id_cursor(cursor: str) -> int:
    """The id of a cursor. Raises CursorInvalidError."""
    return int(_decode(cursor, _ID_CURSOR))


def _decode(cursor: str, form: re.Pattern[bytes]) -> str:
    try:
        found = form.fullmatch(urlsafe_b64decode(cursor))
    except ValueError:
        found = None
    if found is None:
        raise CursorInvalidError("Use the `next_cursor` of the page before, or none for the first page.")
    return found[1].decode()


def _decode_id(cursor: _Given = None) -> int | None:
    return int(_decode(cursor, _ID_CURSOR)) if cursor is not None else None


def _decode_sha(cursor: _Given = None) -> str | None:
    return _decode(cursor, _SHA_CURSOR) if cursor is not None else None


RowId = Annotated[int, Path(ge=1, le=2**31 - 1)]
"""The id of a row in a path, within what an integer column of PostgreSQL holds."""

Cursor = Annotated[int | None, Depends(_decode_id)]
"""The id below which a page begins, or None for the first page."""

ShaCursor = Annotated[str | None, Depends(_decode_sha)]
"""The sha of the commit with which a page begins, or None for the first page."""

Limit = Annotated[int, Query(ge=1, le=200, description="rows a page")]


def cut_page(rows: list[Row], limit: int, get_id: Callable[[Row], int]) -> Page[Row]:
    """A page of `limit` rows from a list that was asked for with one more, to know whether it goes on."""
    more = len(rows) > limit
    return Page(items=rows[:limit], next_cursor=encode_cursor(get_id(rows[limit - 1])) if more else None)
