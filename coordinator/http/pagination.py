"""Keyset paging: a cursor is opaque to the client, and holds the id after which the next page begins."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Path, Query

from coordinator.http.errors import SwarmError
from shared.protocol import Page

Row = TypeVar("Row")
_PREFIX = b"before:"
_MAX_ID = 2**63 - 1
_SHA_PREFIX = b"from:"
_SHA_CURSOR = re.compile(_SHA_PREFIX + rb"([0-9a-f]{40})")


class CursorInvalidError(SwarmError):
    status = 422
    code = "cursor-invalid"
    title = "The cursor is not one that this API gave"


def encode_cursor(row_id: int) -> str:
    return urlsafe_b64encode(_PREFIX + str(row_id).encode()).decode()


def decode_cursor(cursor: str) -> int:
    """The id inside a cursor. Raises CursorInvalidError."""
    try:
        text = urlsafe_b64decode(cursor.encode())
        if not text.startswith(_PREFIX):
            raise ValueError("no prefix")
        row_id = int(text.removeprefix(_PREFIX))
    except ValueError as error:
        raise CursorInvalidError("Use the `next_cursor` of the page before, or none for the first page.") from error
    if not 0 <= row_id <= _MAX_ID:
        raise CursorInvalidError("Use the `next_cursor` of the page before, or none for the first page.")
    return row_id


def _before_id(
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before")] = None,
) -> int | None:
    return decode_cursor(cursor) if cursor is not None else None


def encode_sha_cursor(sha: str) -> str:
    return urlsafe_b64encode(_SHA_PREFIX + sha.encode()).decode()


def _decode_sha_cursor(
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before")] = None,
) -> str | None:
    """The sha inside a cursor. Raises CursorInvalidError."""
    if cursor is None:
        return None
    try:
        found = _SHA_CURSOR.fullmatch(urlsafe_b64decode(cursor.encode()))
    except ValueError:
        found = None
    if found is None:
        raise CursorInvalidError("Use the `next_cursor` of the page before, or none for the first page.")
    return found[1].decode()


RowId = Annotated[int, Path(ge=1, le=2**31 - 1)]
"""The id of a row in a path, within what an integer column of PostgreSQL holds."""

Cursor = Annotated[int | None, Depends(_before_id)]
"""The id below which a page begins, or None for the first page."""

ShaCursor = Annotated[str | None, Depends(_decode_sha_cursor)]
"""The sha of the commit with which a page begins, or None for the first page."""

Limit = Annotated[int, Query(ge=1, le=200, description="rows a page")]


def cut_page(rows: list[Row], limit: int, get_id: Callable[[Row], int]) -> Page[Row]:
    """A page of `limit` rows from a list that was asked for with one more, to know whether it goes on."""
    more = len(rows) > limit
    return Page(items=rows[:limit], next_cursor=encode_cursor(get_id(rows[limit - 1])) if more else None)
