"""Indexes of vectors, on both databases, beside a search by hand."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, text

from coordinator.db.database import Database
from coordinator.db.locks import AdvisoryLock, lock_until_commit
from coordinator.models import Embedding, Project
from coordinator.novelty import vector_index
from coordinator.novelty.queries import add_embedding, set_aside
from coordinator.novelty.similarity import Similarity
from coordinator.novelty.vector_index import ArrayIndex, Index, PgvectorIndex, Vector, open_index, pack, unpack
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from tests.support.databases import PostgresServer
from tests.support.seeds import write_seed

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


def test_while_the_index_is_made_nobody_waits_for_it(postgres: PostgresServer, tmp_path: Path) -> None:
    address = postgres.create_migrated()
    database = Database(address)
    similarity = Similarity(database, CoordinatorSettings(database_url=address))
    vector = similarity.embed(["a text"])
    assert vector is not None
    with database.write() as session:
        project = create_project(session, write_seed(tmp_path / "seed"))[0].id
    with ThreadPoolExecutor(1) as pool:
        with database.write() as other:
            lock_until_commit(other, AdvisoryLock.VECTOR_INDEX)  # as another process that makes it
            making = pool.submit(similarity.prepare)
            while not other.scalar(text("select count(*) from pg_locks where locktype = 'advisory' and not granted")):
                assert not making.done()
            with database.write() as second:
                similarity.store(second, project, "proposal", "first", vector)
                assert similarity.find(second, project, "proposal", vector, 5) is None
            assert not making.done()
        making.result()
    with database.write() as session:
        similarity.store(session, project, "proposal", "second", vector)
    similarity.prepare()
    with database.read() as session:
        found = similarity.find(session, project, "proposal", vector, 5)
    assert found is not None and {one.key for one in found} == {"first", "second"}
    database.close()
    postgres.drop(address)


def test_no_request_makes_the_index_when_the_embedder_was_away_at_the_start(
    database: Database, project: str, settings: CoordinatorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    similarity = Similarity(database, settings)
    (vector,) = make_vectors(1)
    monkeypatch.setattr(similarity, "embed", lambda parts: None)
    with database.write() as session:
        project_id = session.query(Project).one().id
        add_embedding(session, project_id, "proposal", "before", similarity.embedder.name, pack(vector))
    similarity.prepare()
    with database.write() as session:
        similarity.store(session, project_id, "proposal", "meanwhile", vector)
        assert similarity.find(session, project_id, "proposal", vector, 5) is None
    monkeypatch.setattr(similarity, "embed", lambda parts: vector)
    similarity.prepare()
    with database.write() as session:
        similarity.store(session, project_id, "proposal", "after", vector)
    with database.read() as session:
        found = similarity.find(session, project_id, "proposal", vector, 5)
    assert found is not None and {one.key for one in found} == {"before", "meanwhile", "after"}


def test_deferred_texts_outlive_the_process(
    database: Database, project: str, settings: CoordinatorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Similarity(database, settings)
    monkeypatch.setattr(before, "embed", lambda parts: None)
    with database.write() as session:
        project_id = session.query(Project).one().id
        before.defer(session, project_id, "proposal", "one", ["a larger vocabulary", "more tokens"])
        before.defer(session, project_id, "proposal", "bad", ["a text that the embedder refuses"])
        before.defer(session, project_id, "proposal", "two", ["half the learning rate"])
    before.store_deferred()
    assert list_stored(database) == set()
    after = Similarity(database, settings)
    embed = after.embed
    monkeypatch.setattr(after, "embed", lambda parts: None if "refuses" in parts[0] else embed(parts))
    after.store_deferred()
    assert list_stored(database) == {"one"}, "the embedder may be away"
    after.store_deferred()
    assert list_stored(database) == {"one", "two"}, "one bad text does not hold up others"
    monkeypatch.setattr(after, "embed", embed)
    after.store_deferred()
    after.store_deferred()
    assert list_stored(database) == {"one", "bad", "two"}
    with database.read() as session:
        assert after.count_deferred(session, "proposal", 10) == 0
        found = after.find(session, project_id, "proposal", embed(["a larger vocabulary"]), 5)
    assert found is not None and found[0].key == "one" and len(found) == 3


def list_stored(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(Embedding.key)))


def test_the_newest_words_of_a_text_win(database: Database, project: str, settings: CoordinatorSettings) -> None:
    similarity = Similarity(database, settings)
    old, new = similarity.embed(["a larger vocabulary"]), similarity.embed(["half the learning rate"])
    assert old is not None and new is not None
    similarity.prepare()
    with database.write() as session:
        project_id = session.query(Project).one().id
        similarity.defer(session, project_id, "finding", "1", ["half the learning rate"])
        similarity.store(session, project_id, "finding", "1", old)  # embedded before, and stored after the revision
    similarity.store_deferred()
    with database.read() as session:
        (found,) = similarity.find(session, project_id, "finding", new, 5) or []
    assert found.key == "1" and found.similarity == pytest.approx(1.0, abs=1e-5)


def test_nothing_is_deferred_by_a_transaction_that_fails(
    database: Database, project: str, settings: CoordinatorSettings
) -> None:
    similarity = Similarity(database, settings)
    with pytest.raises(KeyError), database.write() as session:
        similarity.defer(session, session.query(Project).one().id, "proposal", "one", ["words"])
        raise KeyError
    similarity.store_deferred()
    assert list_stored(database) == set()


@pytest.mark.parametrize(("look_back", "found"), [(200, ["late", "proposal-0"]), (0, ["proposal-0"])])
def test_arrays_find_a_text_that_was_committed_late(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look_back: int, found: list[str]
) -> None:
    monkeypatch.setattr(vector_index, "LOOK_BACK", look_back)
    address = postgres.create_migrated()
    database = Database(address)
    with database.write() as session:
        create_project(session, write_seed(tmp_path / "seed"))
    first, second = make_vectors(2)
    index = ArrayIndex(MODEL)
    with database.write() as late:
        project_id = late.query(Project).one().id
        add_embedding(late, project_id, "proposal", "late", MODEL, pack(first))
        store(database, index, [second])
        assert [key for key, _ in search(database, index, first)] == ["proposal-0"]
    for _ in range(2):
        assert sorted(key for key, _ in search(database, index, first)) == found, "without looking back it is missed"
    database.close()
    postgres.drop(address)
