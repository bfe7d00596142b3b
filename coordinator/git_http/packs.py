"""Packs as streams of stored rows, and a project's whole history as a pack or as a git bundle (a pack with refs).

A row holds an object's content or a delta as zlib, and so does a pack: only deltas whose base the client lacks are
compressed again. Objects are never deleted, so each chunk has its own session, and a slow client holds no transaction
open. While `repack` replaces rows, two chunks may see two objects as deltas against each other; git notices, and the
fetch can be tried again.
"""

import sqlite3
import zlib
from collections.abc import Collection, Iterable, Iterator
from hashlib import sha1
from itertools import chain, islice
from tempfile import SpooledTemporaryFile
from typing import IO, NamedTuple, Self

from dulwich.object_format import SHA1
from dulwich.objects import object_class
from dulwich.pack import REF_DELTA, pack_header_chunks, pack_object_header
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.git_http import queries
from coordinator.git_http.walk import MissingCommit
from coordinator.lineage.objects import ObjectMissingError, ObjectRow, read_versions
from shared.commits import parse_tree

COMMITS_AT_ONCE = 200  # whose trees are compared together
OBJECTS_AT_ONCE = 128  # of a stream in memory; a file has at most one MiB, and usually some 10 kB
MEMORY_BYTES = 256 * 1024  # of a bundle's list of refs; a longer list goes to a temporary file

Folder = dict[str, tuple[bool, str]]
"""A tree's entries: name -> whether it is a folder, and its sha."""


class Listed(NamedTuple):
    """An object to send, and a similar one that the client has or gets as well."""

    sha: str
    held_sha: str | None


class ObjectList:
    """The objects of a pack, each once, in the order of adding. Complete it first: a pack begins with its length.

    It is a nameless SQLite database, which goes from memory to a temporary file as it grows. Close it.
    """

    def __init__(self) -> None:
        # Chunks of one stream may come from several threads, one after the other.
        self._rows = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._rows.execute("pragma journal_mode = off")  # nothing is ever rolled back
        self._rows.execute("create table objects (position integer primary key, sha blob not null unique, held blob)")
        self._rows.execute("begin")

    def add(self, objects: Iterable[Listed]) -> None:
        """Adds the objects that are not in the list yet."""
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

    def __exit__(self, *_: object) -> None:
        self._rows.close()


def list_objects(session: Session, commits: Iterable[MissingCommit]) -> ObjectList:
    """The commits, and the parts of their trees that are not in their base's tree. Raises ObjectMissingError."""
    objects = ObjectList()
    left = iter(commits)
    while some := list(islice(left, COMMITS_AT_ONCE)):
        objects.add(Listed(commit.sha, None) for commit in some)
        objects.add(_list_new(session, [Listed(commit.tree_sha, commit.base_tree_sha) for commit in some]))
    return objects


def _list_new(session: Session, trees: list[Listed]) -> Iterator[Listed]:
    """The trees, and each entry that differs from the entry at the same place in the held tree; level by level."""
    while trees := [tree for tree in trees if tree.sha != tree.held_sha]:
        folders = _read_folders(session, {sha for tree in trees for sha in tree if sha is not None})
        below: list[Listed] = []
        for tree in trees:
            yield tree
            held = folders[tree.held_sha] if tree.held_sha else {}
            for name, (is_folder, sha) in folders[tree.sha].items():
                was_folder, held_sha = held.get(name, (is_folder, None))
                entry = Listed(sha, held_sha if was_folder == is_folder else None)
                if is_folder:
                    below.append(entry)
                elif sha != held_sha:
                    yield entry
        trees = below


def _read_folders(session: Session, shas: set[str]) -> dict[str, Folder]:
    return {
        sha: {name: (is_folder, entry_sha) for name, is_folder, entry_sha in parse_tree(tree.object.data)}
        for sha, tree in read_versions(session, shas).items()
    }


def list_history(session: Session, project_id: int) -> ObjectList:
    """Every object of the project."""
    commits = queries.list_all_commits(session, project_id)
    return list_objects(session, (MissingCommit(c.sha, c.tree_sha, c.parent_tree_sha) for c in commits))


def write_bundle_header(session: Session, project_id: int) -> IO[bytes]:
    """The beginning of a bundle: HEAD, the branches, and a tag for each experiment, because a clone takes all tags."""
    header = SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115  the stream closes it
    branches = queries.list_branch_refs(session, project_id)
    header.write(f"# v2 git bundle\n{branches[0].sha} HEAD\n".encode())
    for ref in chain(branches, queries.list_experiment_refs(session, project_id)):
        header.write(f"{ref.sha} {ref.name}\n".encode())
    header.write(b"\n")
    header.seek(0)
    return header


def stream_bundle(database: Database, header: IO[bytes], objects: ObjectList) -> Iterator[bytes]:
    """A bundle, in chunks."""
    with header:
        while chunk := header.read(MEMORY_BYTES):
            yield chunk
    yield from stream_pack(database, objects)


def stream_pack(database: Database, objects: ObjectList, *, is_thin: bool = False) -> Iterator[bytes]:
    """A pack of the objects, in chunks; closes the list. Raises ObjectMissingError, ObjectDamagedError.

    A thin pack may hold deltas against objects that the client has already.
    """
    digest = sha1(usedforsecurity=False)
    with objects:
        for chunk in _pack_chunks(database, objects, is_thin):
            digest.update(chunk)
            yield chunk
    yield digest.digest()


def _pack_chunks(database: Database, objects: ObjectList, is_thin: bool) -> Iterator[bytes]:
    yield b"".join(pack_header_chunks(len(objects)))
    for some in objects.read_chunks(OBJECTS_AT_ONCE):
        with database.read() as session:
            chunk = _pack_some(session, objects, some, is_thin)
        yield chunk


def _pack_some(session: Session, objects: ObjectList, some: list[Listed], is_thin: bool) -> bytes:
    rows = queries.list_stored_objects(session, [listed.sha for listed in some])
    if len(rows) < len(some):
        missing = {listed.sha for listed in some} - {row.sha for row in rows}
        raise ObjectMissingError(f"git objects are missing from the database: {', '.join(sorted(missing))}")
    bases = objects.find({row.base_sha for row in rows if row.base_sha is not None})
    held = {listed.sha: listed.held_sha for listed in some} if is_thin else {}
    as_stored = {row.sha for row in rows if row.base_sha is None or row.base_sha in {held.get(row.sha), *bases}}
    others = read_versions(session, [row.sha for row in rows if row.sha not in as_stored])
    return b"".join(
        _pack_stored(row) if row.sha in as_stored else _pack_whole(row, zlib.compress(others[row.sha].object.data))
        for row in rows
    )


def _pack_stored(row: ObjectRow) -> bytes:
    if row.base_sha is None:
        return _pack_whole(row, row.data)
    size = len(zlib.decompress(row.data))
    return bytes(pack_object_header(REF_DELTA, bytes.fromhex(row.base_sha), size, SHA1)) + row.data


def _pack_whole(row: ObjectRow, data: bytes) -> bytes:
    kind = object_class(row.kind.encode())
    assert kind is not None, "the store holds blobs, trees and commits"
    return bytes(pack_object_header(kind.type_num, None, row.size, SHA1)) + data
