"""The object store: git objects as rows. Nothing else writes the table `git_objects`, and nothing else reads it but
`remote/queries.py`, which puts rows into packs as they are stored.

An object is stored as a whole, or as a delta against the parent commit's version of the same file. Deltas are made
before the write transaction begins (`encode`); storing only adds rows. What is read is checked against its name, which
costs 0.03 ms for 25 kB, so a damaged row is an error and never a wrong answer.
"""

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import NamedTuple

from sqlalchemy import Select, bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from coordinator.db.sessions import engine_of
from coordinator.db.statements import Prepared
from coordinator.lineage.deltas import DeltaDamagedError, apply_delta, make_delta
from coordinator.lineage.recent import RecentObjects, Version
from coordinator.models import StoredObject, table_of
from shared.commits import GitObject, name_object, parse_tree

MAX_CHAIN = 16
"""Deltas from an object to one that is stored as a whole, at most."""

DELTA_SHARE = 6
"""A delta is taken where it is at most this part of the content: half of what zlib alone leaves, which is a third."""


WHOLE_UP_TO = 168
"""Bytes of a content that is stored as a whole without trying. A tree's delta has at least the 20 bytes of a new name,
which do not compress, and what zlib adds to them: 28, of which DELTA_SHARE times as many are these."""


class StoredRow(NamedTuple):
    """An object as it is stored: `size` is its content's, `data` is compressed, and a delta if it has a base."""

    sha: str
    kind: str
    size: int
    data: bytes
    base_sha: str | None


def _select_chains() -> Select[str, str, int, bytes, str | None]:
    """The rows of the objects `shas` and of all that they are deltas against.

    The union keeps each once, and ends a circle. It carries whole rows: given names only, PostgreSQL would look them up
    by reading the whole table. Built once, because that takes longer than running it, and of the table's columns
    rather than the class's, which spares a third of the time.
    """
    columns = StoredObject.__table__.c
    row = select(columns.sha, columns.kind, columns.size, columns.data, columns.base_sha)
    chain = row.where(columns.sha.in_(bindparam("shas", expanding=True))).cte("chain", recursive=True)
    chain = chain.union(row.join(chain, columns.sha == chain.c.base_sha))
    return select(chain.c.sha, chain.c.kind, chain.c.size, chain.c.data, chain.c.base_sha)


CHAINS = _select_chains()
_READ_CHAINS = Prepared(CHAINS)
_OBJECTS = table_of(StoredObject)
PRESENT = Prepared(select(_OBJECTS.c.sha).where(_OBJECTS.c.sha.in_(bindparam("shas", expanding=True))))

OBJECTS_AT_ONCE = 8
"""Objects that one statement adds; it is prepared for each smaller number."""

REPLACING_LOCK = 7_305_802_114
"""Number of PostgreSQL's advisory lock for `replace_encodings`."""


class ObjectMissingError(Exception):
    """An object that a commit needs is not in the store: the database is damaged."""


class ObjectDamagedError(Exception):
    """What is stored does not have the name that it is stored under: the database is damaged."""


@dataclass(frozen=True)
class EncodedObject:
    """An object as its row holds it."""

    sha: str
    kind: str
    size: int
    data: bytes
    base_sha: str | None


@dataclass(frozen=True)
class Snapshot:
    """A tree with all below it: `files` and `folders` map path -> sha (the root's path is empty), `trees` by sha."""

    files: dict[str, str]
    folders: dict[str, str]
    trees: dict[str, GitObject]


RECENT = RecentObjects(max_bytes=32 * 1024 * 1024)


def read_recent(session: Session, shas: Collection[str]) -> dict[str, Version]:
    """Like `read_versions`, but of what this process read lately nothing is asked or checked again."""
    found = RECENT.find(shas)
    if len(found) < len(set(shas)):
        read = read_versions(session, [sha for sha in shas if sha not in found])
        RECENT.keep(read)
        found |= read
    return found


def get_object(session: Session, sha: str) -> GitObject:
    """One object. Raises ObjectMissingError, ObjectDamagedError."""
    return read_versions(session, [sha])[sha].object


def read_versions(session: Session, shas: Collection[str]) -> dict[str, Version]:
    """Several objects, with one query. Raises ObjectMissingError, ObjectDamagedError."""
    if not shas:
        return {}
    rows = {row[0]: StoredRow._make(row) for row in _READ_CHAINS.all(session, {"shas": list(shas)})}
    return {sha: _decode(rows, sha) for sha in shas}


def _decode(rows: Mapping[str, StoredRow], sha: str) -> Version:
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
    return Version(found, chain)


@lru_cache(maxsize=1_024)
def _parse_tree(data: bytes) -> tuple[tuple[str, bool, str], ...]:
    return tuple(parse_tree(data))


def read_snapshot(session: Session, tree_sha: str, known: Mapping[str, GitObject] | None = None) -> Snapshot:
    """A tree with all below it, with one query for each level of folders.

    Trees in `known` are not asked for; they need not be stored yet. Raises ObjectMissingError, ObjectDamagedError.
    """
    snapshot = Snapshot({}, {}, {})
    known = known or {}
    level = {"": tree_sha}
    while level:
        trees = _read_trees(session, set(level.values()), known)
        snapshot.folders.update(level)
        snapshot.trees.update(trees)
        below: dict[str, str] = {}
        for folder, folder_sha in level.items():
            for name, is_folder, sha in _parse_tree(trees[folder_sha].data):
                (below if is_folder else snapshot.files)[f"{folder}/{name}" if folder else name] = sha
        level = below
    return snapshot


def _read_trees(session: Session, shas: set[str], known: Mapping[str, GitObject]) -> dict[str, GitObject]:
    read = read_recent(session, shas - known.keys())
    return {sha: known[sha] if sha in known else read[sha].object for sha in shas}


def list_tree(session: Session, tree_sha: str) -> dict[str, str]:
    """All files below a tree: path -> blob sha."""
    return read_snapshot(session, tree_sha).files


def read_texts(session: Session, files: Mapping[str, str]) -> dict[str, str]:
    """The content of files: path -> blob sha becomes path -> text. Every file that was let in is UTF-8."""
    read = read_recent(session, set(files.values()))
    return {path: read[sha].object.data.decode() for path, sha in files.items()}


def list_predecessors(after: Snapshot, before: Snapshot) -> dict[str, str]:
    """What stood at the same path before, for each file and folder that changed: new sha -> old sha."""
    pairs = [(after.files, before.files), (after.folders, before.folders)]
    return {
        sha: old[path] for new, old in pairs for path, sha in new.items() if path in old and old[path] != sha
    }  # fmt: skip


def encode(session: Session, objects: Iterable[GitObject], predecessors: Mapping[str, str]) -> list[EncodedObject]:
    """Objects as rows: deltas against their predecessors (sha -> sha) where that pays, whole ones otherwise."""
    wanted = {obj.sha: obj for obj in objects}
    bases = _choose_bases(session, {predecessors[sha] for sha in wanted if sha in predecessors})
    return [encode_one(obj, bases.get(predecessors.get(sha, ""))) for sha, obj in wanted.items()]


def _choose_bases(session: Session, predecessors: set[str]) -> dict[str, Version]:
    """The predecessors themselves, or where a chain is at its longest the object that it begins with."""
    versions = read_recent(session, predecessors)
    too_long = {sha: version.chain[-1] for sha, version in versions.items() if version.deltas >= MAX_CHAIN}
    whole = read_recent(session, set(too_long.values()))
    return versions | {sha: whole[start] for sha, start in too_long.items()}


def encode_one(obj: GitObject, base: Version | None = None) -> EncodedObject:
    """An object as a row: a delta against `base` where that pays."""
    if base is not None and len(obj.data) > WHOLE_UP_TO and obj.sha not in base.chain:
        delta = zlib.compress(make_delta(base.object.data, obj.data), level=9)
        if len(delta) <= len(obj.data) // DELTA_SHARE:
            return EncodedObject(obj.sha, obj.kind, len(obj.data), delta, base.object.sha)
    return EncodedObject(obj.sha, obj.kind, len(obj.data), zlib.compress(obj.data, level=9), None)


def keep_new(session: Session, objects: Iterable[GitObject]) -> list[GitObject]:
    """Those objects that are not stored yet."""
    wanted = {obj.sha: obj for obj in objects}
    missing = find_missing(session, wanted)
    return [obj for sha, obj in wanted.items() if sha in missing]


def find_missing(session: Session, shas: Iterable[str]) -> set[str]:
    """Names that are not in the store."""
    wanted = set(shas)
    return wanted - {sha for (sha,) in PRESENT.all(session, {"shas": list(wanted)})}


def list_names(session: Session, after: str, limit: int) -> Sequence[str]:
    """Names of stored objects in their order, from the first behind `after`."""
    return session.scalars(
        select(StoredObject.sha).where(StoredObject.sha > after).order_by(StoredObject.sha).limit(limit)
    ).all()


def count_objects(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(StoredObject)) or 0


def count_bytes(session: Session, shas: Collection[str] | None = None) -> int:
    """Bytes that the contents of these objects, or of all, take as they are stored."""
    query = select(func.sum(func.length(StoredObject.data)))
    if shas is not None:
        query = query.where(StoredObject.sha.in_(shas))
    return int(session.scalar(query) or 0)


def add_objects(session: Session, encoded: Iterable[EncodedObject]) -> None:
    """Store objects. The same content has the same name, so what is there already is left alone.

    They are sorted, so that two transactions that bring the same objects wait for each other in one order.
    """
    ordered = sorted(encoded, key=lambda obj: obj.sha)
    for start in range(0, len(ordered), OBJECTS_AT_ONCE):
        some = ordered[start : start + OBJECTS_AT_ONCE]
        given = {f"{name}_{at}": value for at, obj in enumerate(some) for name, value in vars(obj).items()}
        _prepare_adding(engine_of(session).dialect.name, len(some)).run(session, given)


@cache
def _prepare_adding(dialect: str, count: int) -> Prepared:
    """An insert of so many objects, each parameter with its object's number behind its name."""
    rows = [
        {column.name: bindparam(f"{column.name}_{at}", type_=column.type) for column in _OBJECTS.c}
        for at in range(count)
    ]
    if dialect == "sqlite":
        return Prepared(sqlite.insert(_OBJECTS).values(rows).on_conflict_do_nothing())
    return Prepared(postgresql.insert(_OBJECTS).values(rows).on_conflict_do_nothing())


def replace_encodings(session: Session, encoded: Sequence[EncodedObject]) -> int:
    """Store objects that are there in another way, and read each back; returns how many were changed.

    One that its new base already depends on is left as it is. Only one transaction at a time does this, because two
    could make deltas against each other. Raises ObjectDamagedError, and nothing may then be committed.
    """
    if engine_of(session).dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(REPLACING_LOCK)))
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
