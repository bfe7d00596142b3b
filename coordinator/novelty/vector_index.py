"""Which stored texts are nearest to a new one: an index over the table of embeddings, which can be built again.

Two kinds: arrays in this process, which is enough on SQLite and anywhere; and pgvector's HNSW on PostgreSQL, in a
schema of its own that may be dropped (it is made and filled again) and that backups leave out. Where PostgreSQL has no
pgvector, or we may not use it, arrays serve there too.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import islice
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError

from coordinator.db.database import Database
from coordinator.db.engine import Conn, engine_of
from coordinator.db.locks import AdvisoryLock, lock_until_commit
from coordinator.novelty import queries
from coordinator.novelty.queries import EmbeddingRow

log = structlog.get_logger()

Vector = NDArray[np.float32]
"""Of length one."""

MAX_ROWS = 131_072
"""Of one kind and project; beyond that the older half is forgotten by the arrays. Of 256 numbers each, these are
128 MiB."""

LOOK_BACK = 200
"""Rows below the last that arrays look at again: PostgreSQL numbers a row before its transaction commits."""

ROWS_AT_ONCE = 1_000
MIN_SCANNED, MAX_SCANNED = 40, 1_000
"""Of how many near vectors pgvector keeps count in a search, at least and at most."""

MAX_HNSW_DIMENSIONS = 2_000
"""pgvector indexes no longer vectors; then it compares with each."""


class Neighbour(NamedTuple):
    """A stored text's key, and its similarity: the scalar product, 1 for the same direction."""

    key: str
    similarity: float


class Index(ABC):
    """An index of one model's vectors. Safe to use from several threads."""

    @abstractmethod
    def catch_up(self, database: Database) -> None:
        """Take in all rows that are stored."""

    @abstractmethod
    def find(self, session: Conn, project_id: int, subject: str, vector: Vector, limit: int) -> list[Neighbour]:
        """The nearest texts of a kind in a project, the nearest first."""

    def add(self, session: Conn, row: EmbeddingRow) -> None:  # noqa: B027 - not every index needs it
        """Take in a row that was just stored in this transaction."""

    def remove(self, session: Conn, row: EmbeddingRow) -> None:  # noqa: B027 - likewise
        """Leave out a row that was just set aside in this transaction, if it was there."""


def pack(vector: Vector) -> bytes:
    """A vector as it is stored: 32-bit numbers, little-endian."""
    return vector.astype("<f4").tobytes()


def unpack(data: bytes) -> Vector:
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


class _Group:
    """The vectors of one project and kind, in an array that doubles; the newest of each key."""

    def __init__(self, dimensions: int) -> None:
        self.keys: list[str] = []
        self._places: dict[str, int] = {}
        self._vectors = np.empty((64, dimensions), dtype=np.float32)

    def add(self, key: str, vector: Vector) -> None:
        count = len(self.keys)
        known = self._places.get(key)
        if known is not None:
            self._vectors[known] = vector
            return
        if count == MAX_ROWS:
            older = count // 2
            self._vectors[: count - older] = self._vectors[older:count].copy()
            del self.keys[:older]
            self._places = {kept: place for place, kept in enumerate(self.keys)}
            count = len(self.keys)
        if count == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])[:MAX_ROWS]
        self._vectors[count] = vector
        self._places[key] = count
        self.keys.append(key)

    def find(self, vector: Vector, limit: int) -> list[Neighbour]:
        similarities = self._vectors[: len(self.keys)] @ vector
        best = np.argpartition(-similarities, limit)[:limit] if limit < len(similarities) else np.arange(len(self.keys))
        best = best[np.argsort(-similarities[best])]
        return [Neighbour(self.keys[at], float(similarities[at])) for at in best]


class ArrayIndex(Index):
    """Arrays in this process. Before each search it reads what was stored since the last.

    A text that was set aside is found by its earlier words until its next row takes its place.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._lock = Lock()
        self._last_id = 0
        self._recent = set[int]()  # rows from LOOK_BACK below the last on
        self._groups: dict[tuple[int, str], _Group] = {}

    def catch_up(self, database: Database) -> None:
        with database.read() as session, self._lock:
            self._read_new(session)

    def find(self, session: Conn, project_id: int, subject: str, vector: Vector, limit: int) -> list[Neighbour]:
        with self._lock:
            self._read_new(session)
            known = self._groups.get((project_id, subject))
            return known.find(vector, limit) if known else []

    def _read_new(self, session: Conn) -> None:
        back = LOOK_BACK if engine_of(session).dialect.name == "postgresql" else 0
        for row in queries.list_after(session, self._model, self._last_id - back):
            if row.id in self._recent:
                continue
            stored = unpack(row.vector)
            group = self._groups.setdefault((row.project_id, row.subject), _Group(len(stored)))
            group.add(row.key, stored)
            self._last_id = max(self._last_id, row.id)
            if back:
                self._recent.add(row.id)
        self._recent = {row_id for row_id in self._recent if row_id > self._last_id - back}


class PgvectorIndex(Index):
    """pgvector's HNSW (Malkov, Yashunin 2018), by scalar product."""

    def __init__(self, model: str, dimensions: int) -> None:
        self._model = model
        self._sql = _statements(dimensions)

    @classmethod
    def build(cls, database: Database, model: str, dimensions: int) -> "PgvectorIndex":
        """Make the index if it is not there, and fill in what it lacks. Raises DBAPIError where that cannot be.

        Of a hundred thousand vectors that takes minutes.
        """
        index = cls(model, dimensions)
        names = ("extension", "schema", "table", "outdated")
        index._run(database, [*names, "fill", *(("index",) if dimensions <= MAX_HNSW_DIMENSIONS else ())])
        return index

    def catch_up(self, database: Database) -> None:
        self._run(database, ["fill"])

    def _run(self, database: Database, names: Sequence[str]) -> None:
        """Execute statements, and `fill`, while no other replica does."""
        with database.write() as session:
            session.execute(text("set local statement_timeout = 0"))
            session.execute(text("set local lock_timeout = 0"))
            lock_until_commit(session, AdvisoryLock.VECTOR_INDEX)
            for name in names:
                if name == "fill":
                    self._fill(session)
                else:
                    session.execute(self._sql[name])

    def _fill(self, session: Conn) -> None:
        missing = set(session.scalars(self._sql["missing"], {"model": self._model}))
        rows = queries.list_after(session, self._model, min(missing) - 1) if missing else iter(())
        wanted = (row for row in rows if row.id in missing)
        while some := list(islice(wanted, ROWS_AT_ONCE)):
            session.execute(self._sql["add"], [self._columns_of(row) for row in some])

    def add(self, session: Conn, row: EmbeddingRow) -> None:
        session.execute(self._sql["add"], self._columns_of(row))

    def _columns_of(self, row: EmbeddingRow) -> dict[str, Any]:
        return row._asdict() | {"model": self._model, "vector": _write(unpack(row.vector))}

    def remove(self, session: Conn, row: EmbeddingRow) -> None:
        session.execute(self._sql["remove"], {"id": row.id})

    def find(self, session: Conn, project_id: int, subject: str, vector: Vector, limit: int) -> list[Neighbour]:
        given = {"project_id": project_id, "subject": subject, "model": self._model, "limit": limit}
        session.execute(self._sql["iterate"])
        session.execute(self._sql["look"], {"vectors": str(min(max(limit, MIN_SCANNED), MAX_SCANNED))})
        rows = session.execute(self._sql["find"], given | {"vector": _write(vector)})
        return [Neighbour(key, similarity) for key, similarity in rows]


def open_index(database: Database, model: str, dimensions: int) -> Index:
    """The index that this database allows."""
    if database.backend == "postgresql":
        try:
            return PgvectorIndex.build(database, model, dimensions)
        except DBAPIError as error:
            log.warning("no pgvector: what is alike is looked for in this process", error=str(error.orig))
    return ArrayIndex(model)


def _statements(dimensions: int) -> Mapping[str, TextClause]:
    table = f"similarity.vectors_{dimensions:d}"
    lines = {
        "extension": "create extension if not exists vector",
        "schema": "create schema if not exists similarity",
        "table": f"create table if not exists {table} (embedding_id bigint primary key, project_id int not null, "
        f"subject text not null, key text not null, model text not null, vector vector({dimensions:d}) not null)",
        "index": f"create index if not exists vectors_{dimensions:d}_hnsw on {table} using hnsw (vector vector_ip_ops)",
        "missing": f"select id from embeddings left join {table} on embedding_id = id "  # noqa: S608 - a number
        "where embeddings.model = :model and embedding_id is null",
        "outdated": f"delete from {table} using embeddings "  # noqa: S608 - likewise
        f"where id = embedding_id and embeddings.subject <> {table}.subject",
        "remove": f"delete from {table} where embedding_id = :id",  # noqa: S608 - likewise
        "add": f"insert into {table} values "  # noqa: S608 - likewise
        "(:id, :project_id, :subject, :key, :model, cast(:vector as vector)) on conflict do nothing",
        # Without it forty are found at a time, and each further forty begin anew.
        "look": "select set_config('hnsw.ef_search', :vectors, true)",
        # So that a filter does not leave fewer than were asked for.
        "iterate": "set local hnsw.iterative_scan = strict_order",
        "find": "select key, -(vector <#> cast(:vector as vector)) "  # noqa: S608 - likewise
        f"from {table} where project_id = :project_id and subject = :subject and model = :model "
        "order by vector <#> cast(:vector as vector) limit :limit",
    }
    return {name: text(line) for name, line in lines.items()}


def _write(vector: Vector) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(map(repr, vector.tolist())) + "]"
