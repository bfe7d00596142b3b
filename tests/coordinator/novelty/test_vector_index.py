"""Indexes of vectors, on both databases, beside a search by hand."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import text

from coordinator.db.database import Database
from coordinator.db.locks import AdvisoryLock, lock_until_commit
from coordinator.models import Project
from coordinator.novelty import vector_index
from coordinator.novelty.queries import add_embedding, set_aside
from coordinator.novelty.similarity import Similarity
from coordinator.novelty.vector_index import ArrayIndex, Index, PgvectorIndex, Vector, open_index, pack, unpack
from coordinator.settings import CoordinatorSettings
from tests.support.databases import PostgresServer

MODEL, DIMENSIONS = "test", 8


def make_vectors(count: int, seed: int = 1) -> list[Vector]:
    drawn = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return list(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def store(database: Database, index: Index, vectors: list[Vector], subject: str = "proposal", first: int = 0) -> None:
    with database.write() as session:
        project = session.query(Project).one()
        for number, vector in enumerate(vectors, start=first):
            index.add(session, add_embedding(session, project.id, subject, f"{subject}-{number}", MODEL, pack(vector)))


def search(database: Database, index: Index, vector: Vector, limit: int = 5) -> list[tuple[str, float]]:
    with database.read() as session:
        project = session.query(Project).one()
        found = index.find(session, project.id, "proposal", vector, limit)
        assert index.find(session, project.id + 1, "proposal", vector, limit) == []
    return [(one.key, one.similarity) for one in found]


def by_hand(vectors: list[Vector], vector: Vector, limit: int = 5) -> list[tuple[str, float]]:
    products = sorted(((float(one @ vector), number) for number, one in enumerate(vectors)), reverse=True)
    return [(f"proposal-{number}", pytest.approx(product, abs=1e-5)) for product, number in products[:limit]]


def test_the_nearest_are_found(database: Database, project: str) -> None:
    vectors = make_vectors(100)
    index = open_index(database, MODEL, DIMENSIONS)
    assert isinstance(index, PgvectorIndex) is (database.backend == "postgresql")
    (wanted,) = make_vectors(1, seed=2)
    assert search(database, index, wanted) == []
    store(database, index, vectors[:50])
    store(database, index, make_vectors(60, seed=3), subject="finding")
    assert search(database, index, wanted) == by_hand(vectors[:50], wanted)
    store(database, index, vectors[50:], first=50)
    assert search(database, index, wanted) == by_hand(vectors, wanted)
    assert search(database, index, vectors[7])[0] == ("proposal-7", pytest.approx(1.0, abs=1e-5))


def test_an_index_is_built_again_from_what_is_stored(database: Database, project: str) -> None:
    vectors = make_vectors(30)
    store(database, open_index(database, MODEL, DIMENSIONS), vectors)
    if database.backend == "postgresql":
        with database.write() as session:
            session.execute(text("drop schema similarity cascade"))
    (wanted,) = make_vectors(1, seed=2)
    again = open_index(database, MODEL, DIMENSIONS)
    assert search(database, again, wanted) == by_hand(vectors, wanted)
    once_more = open_index(database, MODEL, DIMENSIONS)
    assert search(database, once_more, wanted) == by_hand(vectors, wanted)


def test_arrays_serve_where_pgvector_may_not_be_used(database: Database, project: str) -> None:
    if database.backend == "postgresql":
        with database.write() as session:
            session.execute(text("create schema similarity"))
            session.execute(text("create table similarity.vectors_8 (nothing int)"))
    index = open_index(database, MODEL, DIMENSIONS)
    assert isinstance(index, ArrayIndex)
    vectors = make_vectors(10)
    store(database, index, vectors)
    assert search(database, index, vectors[3])[0][0] == "proposal-3"


def test_arrays_forget_the_oldest_when_they_are_full(
    database: Database, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_index, "MAX_ROWS", 20)
    vectors = make_vectors(25)
    index = ArrayIndex(MODEL)
    store(database, index, vectors)
    assert search(database, index, vectors[24])[0][0] == "proposal-24"
    assert search(database, index, vectors[0])[0][0] != "proposal-0"


def test_vectors_are_stored_as_they_are() -> None:
    (vector,) = make_vectors(1)
    assert (unpack(pack(vector)) == vector).all() and len(pack(vector)) == 4 * DIMENSIONS


def test_another_vector_of_a_text_takes_the_place_of_the_one_before(database: Database, project: str) -> None:
    vectors = make_vectors(4)
    index = open_index(database, MODEL, DIMENSIONS)
    store(database, index, vectors[:3])
    assert search(database, index, vectors[2])[0][0] == "proposal-2"
    with database.write() as session:
        for row in set_aside(session, "proposal", "proposal-2"):
            index.remove(session, row)
    store(database, index, [vectors[3]], first=2)
    left = [vectors[0], vectors[1], vectors[3]]
    again = open_index(database, MODEL, DIMENSIONS)
    assert search(database, index, vectors[2]) == search(database, again, vectors[2]) == by_hand(left, vectors[2])
    with database.write() as session:
        set_aside(session, "proposal", "proposal-1")  # by a coordinator that had no such index
    once_more = open_index(database, MODEL, DIMENSIONS)
    assert {key for key, _ in search(database, once_more, vectors[1])} == {"proposal-0", "proposal-2"}


def test_while_the_index_is_made_nobody_waits_for_it(postgres: PostgresServer) -> None:
    address = postgres.create_migrated()
    database = Database(address)
    similarity = Similarity(database, CoordinatorSettings(database_url=address))
    vector = similarity.embed(["a text"])
    assert vector is not None
    with ThreadPoolExecutor(1) as pool, database.read() as session:
        with database.write() as other:
            lock_until_commit(other, AdvisoryLock.VECTOR_INDEX)  # as another process that makes it
            making = pool.submit(similarity.find, session, 1, "proposal", vector, 5)
            while not other.scalar(text("select count(*) from pg_locks where locktype = 'advisory' and not granted")):
                assert not making.done()
            with database.read() as second:
                assert similarity.find(second, 1, "proposal", vector, 5) is None
            assert not making.done()
        assert making.result() == []
    database.close()
    postgres.drop(address)
