"""The list of a pack's objects. It must be complete before the pack begins, because a pack starts with its length."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from types import TracebackType
from typing import NamedTuple, Self


class Listed(NamedTuple):
    """An object to send, and one that is like it and that the client has or gets as well."""

    sha: str
    held_sha: str | None


class ObjectList:
    """Objects, each once, in the order of adding. To be closed.

    It is a private SQLite database without a name: in memory while it is small, in a temporary file when it grows, so
    a million objects need no more memory than some thousands. No other table of ours is in it.
    """

    def __init__(self) -> None:
        # Chunks of one stream are made by one thread after the other, never by two at once.
        self._rows = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._rows.execute("pragma journal_mode = off")  # nothing is ever rolled back
        self._rows.execute("create table objects (position integer primary key, sha blob not null unique, held blob)")
        self._rows.execute("begin")

    def add(self, objects: Iterable[Listed]) -> None:
        """Add what is not in the list yet."""
        rows = ((bytes.fromhex(sha), bytes.fromhex(held_sha) if held_sha else None) for sha, held_sha in objects)
        self._rows.executemany("insert or ignore into objects (sha, held) values (?, ?)", rows)

    def find(self, shas: Collection[str]) -> set[str]:
        """Those of `shas` that are in the list."""
        query = "select 1 from objects where sha = ?"
        return {sha for sha in shas if self._rows.execute(query, (bytes.fromhex(sha),)).fetchone()}

    def read_chunks(self, size: int) -> Iterator[list[Listed]]:
        """The list, `size` objects at a time."""
        rows = self._rows.execute("select sha, held from objects order by position")
        while some := rows.fetchmany(size):
            yield [Listed(sha.hex(), held.hex() if held else None) for sha, held in some]

    def __len__(self) -> int:
        count: int = self._rows.execute("select count(*) from objects").fetchone()[0]
        return count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.close()
