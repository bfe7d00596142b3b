"""The object store: git objects as rows. Only this module writes the table `git_objects`; beside it only
`git_http/queries.py` reads it, which puts rows into packs as they are stored.

An object is stored whole, or as a delta against the parent commit's version of the same file. Deltas are made before
the write transaction begins (`encode`); storing only adds rows. Each object that is read is checked against its name,
which costs 0.03 ms for 25 kB, so a damaged row raises an error and never gives a wrong answer.
"""

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from sqlalchemy import Select, bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from coordinator.db.cache import Cache
from coordinator.db.engine import Conn, engine_of
from coordinator.db.locks import AdvisoryLock, lock_until_commit
from coordinator.lineage.deltas import DeltaDamagedError, apply_delta, make_delta
from coordinator.models import StoredObject, table_of
from shared.commits import GitObject, name_object, parse_tree

MAX_CHAIN = 16
"""Maximum number of deltas between an object and one that is stored whole."""

DELTA_SHARE = 6
"""A delta is stored where it is at most one part in six of the content: half of what zlib alone leaves."""

WHOLE_UP_TO = 168
"""Contents of at most this many bytes are stored whole without trying a delta. A tree's delta takes at least 28 bytes
when compressed (20 of a new name, which do not compress), and this is DELTA_SHARE times 28."""


class ObjectRow(NamedTuple):
    """A row of `git_objects`: `size` is the content's in bytes; `data` is zlib of it, or of a delta with a base."""

    sha: str
    kind: str
    size: int
    data: bytes
    base_sha: str | None


def _select_chains() -> Select[str, str, int, bytes, str | None]:
    """The rows of the objects `shas` and of all that they are deltas against; the union keeps each once, and ends a
    circle. It carries whole rows, because PostgreSQL would look up bare names by reading the whole table."""
    columns = StoredObject.__table__.c
    row = select(columns.sha, columns.kind, columns.size, columns.data, columns.base_sha)
    chain = row.where(columns.sha.in_(bindparam("shas", expanding=True))).cte("chain", recursive=True)
    chain = chain.union(row.join(chain, columns.sha == chain.c.base_sha))
    return select(chain.c.sha, chain.c.kind, chain.c.size, chain.c.data, chain.c.base_sha)


CHAINS = _select_chains()
_OBJECTS = table_of(StoredObject)
PRESENT = select(_OBJECTS.c.sha).where(_OBJECTS.c.sha.in_(bindparam("shas", expanding=True)))


class ObjectMissingError(Exception):
    """An object that a commit needs is not in the store: the database is damaged."""


class ObjectDamagedError(Exception):
    """The stored content does not match its name: the database is damaged."""


@dataclass(frozen=True)
class TreeSnapshot:
    """A tree with all below it: `files` and `folders` map path -> sha (the root's path is empty), `trees` by sha."""

    files: dict[str, str]
    folders: dict[str, str]
    trees: dict[str, GitObject]


@dataclass(frozen=True)
class LoadedObject:
    """An object and its chain: its own name, its base's, and so on to an object that is stored whole."""

    object: GitObject
    chain: list[str]

    @property
    def deltas(self) -> int:
        """Number of deltas between it and an object that is stored whole."""
        return len(self.chain) - 1


RECENT = Cache[str, LoadedObject](32 * 1024 * 1024, lambda one: len(one.object.data))
"""Objects that were read lately; their contents have at most so many bytes. A name stands for one content, so no entry
can be out of date. A chain can be, after another process has repacked; chains only choose the base of a new delta."""


def read_recent(session: Conn, shas: Collection[str]) -> dict[str, LoadedObject]:
    """Like `read_versions`, but takes objects that this process read lately from memory."""
    known = {sha: RECENT.find(sha) for sha in shas}
    read = read_versions(session, [sha for sha, version in known.items() if version is None])
    for sha, version in read.items():
        RECENT.store(sha, version)
    return {sha: version for sha, version in known.items() if version is not None} | read


def read_versions(session: Conn, shas: Collection[str]) -> dict[str, LoadedObject]:
    """Several objects, with one query. Raises ObjectMissingError, ObjectDamagedError."""
    if not shas:
        return {}
    rows = {row[0]: ObjectRow._make(row) for row in session.execute(CHAINS, {"shas": list(shas)}).all()}
    return {sha: _decode(rows, sha) for sha in shas}


def _decode(rows: Mapping[str, ObjectRow], sha: str) -> LoadedObject:
    chain: list[str] = []
    name: str | None = sha
    while name is not None:
        if name not in rows:
            raise ObjectMissingError(f"the git object {name} is missing from the database")
        if name in chain:
            raise ObjectDamagedError(f"the git object {sha} is a delta against itself")
        chain.append(name)
        name = rows[name].base_sha
    try:
        content = zlib.decompress(rows[chain[-1]].data)
        for delta in reversed(chain[:-1]):
            content = apply_delta(content, zlib.decompress(rows[delta].data))
    except (zlib.error, DeltaDamagedError) as error:
        raise ObjectDamagedError(f"the git object {sha} cannot be read: {error}") from error
    found = GitObject(sha, rows[sha].kind, content)
    if name_object(found.kind, content) != sha or len(content) != rows[sha].size:
        raise ObjectDamagedError(f"the git object {sha} holds other content than its name says")
    return LoadedObject(found, chain)


@lru_cache(maxsize=1_024)
def _parse_tree(data: bytes) -> tuple[tuple[str, bool, str], ...]:
    return tuple(parse_tree(data))


def read_snapshot(session: Conn, tree_sha: str, known: Mapping[str, GitObject] | None = None) -> TreeSnapshot:
    """A tree with all below it, with one query for each level of folders.

    Trees in `known` are not asked for; they need not be stored yet. Raises ObjectMissingError, ObjectDamagedError.
    """
    snapshot = TreeSnapshot({}, {}, {})
    known = known or {}
    level = {"": tree_sha}
    while level:
        read = read_recent(session, set(level.values()) - known.keys())
        trees = {sha: known[sha] if sha in known else read[sha].object for sha in level.values()}
        snapshot.folders.update(level)
        snapshot.trees.update(trees)
        below: dict[str, str] = {}
        for folder, folder_sha in level.items():
            for name, is_folder, sha in _parse_tree(trees[folder_sha].data):
                (below if is_folder else snapshot.files)[f"{folder}/{name}" if folder else name] = sha
        level = below
    return snapshot


def list_tree(session: Conn, tree_sha: str) -> dict[str, str]:
    """All files below a tree: path -> blob sha."""
    return read_snapshot(session, tree_sha).files


def read_texts(session: Conn, files: Mapping[str, str]) -> dict[str, str]:
    """The content of files: path -> blob sha becomes path -> text. Every file that was let in is UTF-8."""
    read = read_recent(session, set(files.values()))
    return {path: read[sha].object.data.decode() for path, sha in files.items()}


def list_predecessors(after: TreeSnapshot, before: TreeSnapshot) -> dict[str, str]:
    """The previous object at the same path, for each file and folder that changed: new sha -> old sha."""
    pairs = [(after.files, before.files), (after.folders, before.folders)]
    return {
        sha: old[path] for new, old in pairs for path, sha in new.items() if path in old and old[path] != sha
    }  # fmt: skip


def encode(session: Conn, objects: Iterable[GitObject], predecessors: Mapping[str, str]) -> list[ObjectRow]:
    """Rows of objects: deltas against their predecessors (sha -> sha) where that saves space, else whole ones.

    The objects are kept in memory, because jobs start from new commits."""
    wanted = {obj.sha: obj for obj in objects}
    bases = _choose_bases(session, {predecessors[sha] for sha in wanted if sha in predecessors})
    rows = [encode_one(obj, bases.get(predecessors.get(sha, ""))) for sha, obj in wanted.items()]
    chains = {base.object.sha: base.chain for base in bases.values()}
    for row in rows:
        RECENT.store(row.sha, LoadedObject(wanted[row.sha], [row.sha, *chains.get(row.base_sha or "", [])]))
    return rows


def _choose_bases(session: Conn, predecessors: set[str]) -> dict[str, LoadedObject]:
    """The predecessors, each replaced by the whole object of its chain where the chain has its maximum length."""
    versions = read_recent(session, predecessors)
    too_long = {sha: version.chain[-1] for sha, version in versions.items() if version.deltas >= MAX_CHAIN}
    whole = read_recent(session, set(too_long.values()))
    return versions | {sha: whole[start] for sha, start in too_long.items()}


def encode_one(obj: GitObject, base: LoadedObject | None = None) -> ObjectRow:
    """The row of an object: a delta against `base` where that saves space."""
    if base is not None and len(obj.data) > WHOLE_UP_TO and obj.sha not in base.chain:
        delta = zlib.compress(make_delta(base.object.data, obj.data), level=9)
        if len(delta) <= len(obj.data) // DELTA_SHARE:
            return ObjectRow(obj.sha, obj.kind, len(obj.data), delta, base.object.sha)
    return ObjectRow(obj.sha, obj.kind, len(obj.data), zlib.compress(obj.data, level=9), None)


def find_missing(session: Conn, shas: Iterable[str]) -> set[str]:
    """Names that are not in the store."""
    wanted = set(shas)
    return wanted - {sha for (sha,) in session.execute(PRESENT, {"shas": list(wanted)}).all()}


def list_names(session: Conn, after: str, limit: int) -> Sequence[str]:
    """Names of stored objects, sorted, from the first after `after`."""
    return session.scalars(
        select(StoredObject.sha).where(StoredObject.sha > after).order_by(StoredObject.sha).limit(limit)
    ).all()


def count_objects(session: Conn) -> int:
    return session.scalar(select(func.count()).select_from(StoredObject)) or 0


def count_bytes(session: Conn, shas: Collection[str] | None = None) -> int:
    """Stored size in bytes of these objects, or of all."""
    query = select(func.sum(func.length(StoredObject.data)))
    if shas is not None:
        query = query.where(StoredObject.sha.in_(shas))
    return int(session.scalar(query) or 0)


def add_objects(session: Conn, encoded: Iterable[ObjectRow]) -> None:
    """Stores objects and leaves those alone that are stored already.

    They are sorted, so that two transactions with the same objects wait for each other in one order.
    """
    rows = [obj._asdict() for obj in sorted(encoded, key=lambda obj: obj.sha)]
    if rows:
        insert = sqlite.insert if engine_of(session).dialect.name == "sqlite" else postgresql.insert
        session.execute(insert(_OBJECTS).on_conflict_do_nothing(), rows)


def replace_encodings(session: Conn, encoded: Sequence[ObjectRow]) -> int:
    """Replaces the rows of stored objects and reads each back; returns the number of changed rows.

    An object that its new base depends on stays as it is. Only one transaction at a time does this, because two could
    make deltas against each other. Raises ObjectDamagedError; the caller must then not commit.
    """
    lock_until_commit(session, AdvisoryLock.REPACKING)
    bases = read_versions(session, {obj.base_sha for obj in encoded if obj.base_sha is not None})
    base_of: dict[str, str | None] = {}
    for version in bases.values():
        base_of.update(pairwise(version.chain))
    changed = []
    for obj in encoded:
        if obj.sha not in _follow(base_of, obj.base_sha):
            changed.append(obj)
            base_of[obj.sha] = obj.base_sha
    if changed:
        rows = [{"sha": obj.sha, "data": obj.data, "base_sha": obj.base_sha} for obj in changed]
        session.execute(update(StoredObject), rows)
        read_versions(session, [obj.sha for obj in changed])
        RECENT.clear()  # chains have changed: of these objects and of all that are deltas against them
    return len(changed)


def _follow(base_of: Mapping[str, str | None], sha: str | None) -> Iterator[str]:
    while sha is not None:
        yield sha
        sha = base_of.get(sha)
