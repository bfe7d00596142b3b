"""Keyset paging: a cursor is opaque to the client, and holds the id after which the next page begins."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from datetime import datetime
from operator import itemgetter
from typing import Annotated, NamedTuple, TypeVar

from fastapi import Depends, Path, Query

from coordinator.http.errors import SwarmError
from shared.protocol import MAX_COUNT, Page

Row = TypeVar("Row")
_ID_CURSOR = re.compile(rb"before:(\d{1,9})")
_VALUE_CURSORS = {
    int: re.compile(rb"at:([-0-9.xp+a-f]{1,40}:\d{1,9})"),
    str: re.compile(rb"at:([-0-9.xp+a-f]{1,40}:[0-9a-f]{40})"),
}
"""By the kind of the key: an id, or a commit's sha."""

_SHA_CURSOR = re.compile(rb"from:([0-9a-f]{40})")
_MOMENT_CURSOR = re.compile(rb"seen:([0-9T:.+-]{19,40}\+00:00:\d{1,9})")
_HELP = "Use the `next_cursor` of the page before, or none for the first page."
_Given = Annotated[str | None, Query(description="`next_cursor` of the page before")]


class Position(NamedTuple):
    """The last row of a page: its id or its commit, and the value that orders it unless that is the id."""

    key: int | str
    value: float | datetime | None = None


class CursorInvalidError(SwarmError, status=422, title="The cursor is not one that this API gave"):
    pass


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
        raise CursorInvalidError(_HELP) from None


def decode_id_cursor(cursor: str) -> int:
    """The id of a cursor. Raises CursorInvalidError."""
    return int(_decode(cursor, _ID_CURSOR))


def encode_position(position: Position) -> str:
    if position.value is None:
        return encode_cursor(int(position.key))
    if isinstance(position.value, datetime):
        return encode_moment_cursor(position.value, int(position.key))
    return urlsafe_b64encode(f"at:{float(position.value).hex()}:{position.key}".encode()).decode()


def _decode(cursor: str, form: re.Pattern[bytes]) -> str:
    try:
        found = form.fullmatch(urlsafe_b64decode(cursor))
    except ValueError:
        found = None
    if found is None:
        raise CursorInvalidError(_HELP)
    return found[1].decode()


def _decode_id(cursor: _Given = None) -> int | None:
    return int(_decode(cursor, _ID_CURSOR)) if cursor is not None else None


def _decode_sha(cursor: _Given = None) -> str | None:
    return _decode(cursor, _SHA_CURSOR) if cursor is not None else None


def decode_position(cursor: str, kind: type[float | datetime] | None, key_kind: type[int | str] = int) -> Position:
    """The position that a cursor holds, of a list that is ordered by values of a kind, or by ids alone.

    Raises CursorInvalidError.
    """
    if kind is None:
        return Position(decode_id_cursor(cursor))
    if kind is datetime:
        moment, row_id = decode_moment_cursor(cursor)
        return Position(row_id, moment)
    number, _, key = _decode(cursor, _VALUE_CURSORS[key_kind]).partition(":")
    try:
        value = float.fromhex(number)
    except (ValueError, OverflowError) as error:
        raise CursorInvalidError(_HELP) from error
    if kind is int and abs(value) > MAX_COUNT:
        raise CursorInvalidError(_HELP)
    return Position(key_kind(key), value)


RowId = Annotated[int, Path(ge=1, le=2**31 - 1)]
"""The id of a row in a path, within what an integer column of PostgreSQL holds."""

GivenCursor = _Given
"""A cursor as it was given, for lists that have more than one order."""

Cursor = Annotated[int | None, Depends(_decode_id)]
"""The id below which a page begins, or None for the first page."""

ShaCursor = Annotated[str | None, Depends(_decode_sha)]
"""The sha of the commit with which a page begins, or None for the first page."""

MAX_LIMIT = 200
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="rows a page")]


def cut_page(rows: list[Row], limit: int, get_id: Callable[[Row], int]) -> Page[Row]:
    """A page of `limit` rows from a list that was asked for with one more, to know whether it goes on."""
    more = len(rows) > limit
    return Page(items=rows[:limit], next_cursor=encode_cursor(get_id(rows[limit - 1])) if more else None)


def sort_page(
    rows: Iterable[Row], read: Callable[[Row], tuple[float | None, int]], ascending: bool, cursor: str | None,
    limit: int,
) -> Page[Row]:  # fmt: skip
    """A page of a list that is short enough to be sorted whole; `read` gives the value that orders a row, and its id.
    Rows without the value are left out.

    Raises CursorInvalidError.
    """
    read_rows = ((*read(row), row) for row in rows)
    places = [((value, key), row) for value, key, row in read_rows if value is not None]
    places.sort(key=itemgetter(0), reverse=not ascending)
    if cursor is not None:
        key, value = decode_position(cursor, float)
        places = [one for one in places if (one[0] > (value, key) if ascending else one[0] < (value, key))]
    end = Position(places[limit - 1][0][1], places[limit - 1][0][0]) if len(places) > limit else None
    return Page(items=[row for _, row in places[:limit]], next_cursor=encode_position(end) if end else None)
