"""Packs, streamed: the objects are read in chunks of rows, and most leave as they are stored.

A row holds an object's content as zlib, or a delta as zlib, and so does a pack: nothing is compressed again, but for
deltas whose base the client does not have. Objects never go, so each chunk has a session of its own, and a client that
reads slowly holds no transaction open. While objects are stored anew (`repack`), two chunks may see two as deltas
against each other; git notices, and the fetch is to be tried again.
"""

import zlib
from collections.abc import Iterator
from hashlib import sha1

from dulwich.object_format import SHA1
from dulwich.objects import object_class
from dulwich.pack import REF_DELTA, pack_header_chunks, pack_object_header
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.git_http.listing import Listed, ObjectList
from coordinator.git_http.queries import StoredRow, list_stored_objects
from coordinator.lineage.objects import ObjectMissingError, read_versions

OBJECTS_AT_ONCE = 128
"""How many objects of a stream are in memory. A file has at most one MiB, and usually some 10 kB."""


def stream_pack(database: Database, objects: ObjectList, *, is_thin: bool = False) -> Iterator[bytes]:
    """A pack of the objects, in chunks; closes the list. Raises ObjectMissingError, ObjectDamagedError.

    A thin pack may hold deltas against what the client has already.
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
    rows = list_stored_objects(session, [listed.sha for listed in some])
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


def _pack_stored(row: StoredRow) -> bytes:
    if row.base_sha is None:
        return _pack_whole(row, row.data)
    size = len(zlib.decompress(row.data))
    return bytes(pack_object_header(REF_DELTA, bytes.fromhex(row.base_sha), size, SHA1)) + row.data


def _pack_whole(row: StoredRow, data: bytes) -> bytes:
    kind = object_class(row.kind.encode())
    assert kind is not None, "the store holds blobs, trees and commits"
    return bytes(pack_object_header(kind.type_num, None, row.size, SHA1)) + data
