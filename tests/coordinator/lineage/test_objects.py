"""The object store returns what was stored, stores versions as small deltas, and reports damage."""

import threading
import zlib
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select, update
from sqlalchemy.exc import IntegrityError

from coordinator.db.database import Database
from coordinator.lineage import objects
from coordinator.lineage import service as lineage
from coordinator.lineage.commits import CommitRow, get_commit
from coordinator.lineage.objects import MAX_CHAIN, ObjectDamagedError, ObjectMissingError, ObjectRow
from coordinator.models import StoredObject
from coordinator.projects import service as projects
from shared.commits import CommitWords, build_blob, build_trees
from tests.support.examples import choose_examples
from tests.support.messages import AUTHOR

LINES = st.sampled_from(["DEPTH = 4\n", "\n", "    return x\n", "größer 🐝\n", "LEARNING_RATE = 0.003\n" * 20, "end"])
TEXTS = st.lists(LINES, max_size=40).map("".join)


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def root(database: Database, project: str) -> CommitRow:
    with database.read() as session:
        return get_commit(session, projects.get_project(session, project).root_sha)


def make_program(lines: int = 400, seed: int = 3) -> str:
    random = Random(seed)
    return "".join(f"    weight_{number} = scale * {random.random()}\n" for number in range(lines))


def store_versions(database: Database, texts: list[str]) -> list[str]:
    """Each text as a successor of the one before, each in a transaction of its own; returns their names."""
    blobs = [build_blob(text) for text in texts]
    for before, blob in pairwise([None, *blobs]):
        assert blob is not None
        with database.read() as session:
            new = [blob] if objects.find_missing(session, [blob.sha]) else []
            encoded = objects.encode(session, new, {blob.sha: before.sha} if before else {})
        with database.write() as session:
            objects.add_objects(session, encoded)
    return [blob.sha for blob in blobs]


def add_child(database: Database, parent: CommitRow, text: str) -> CommitRow:
    with database.read() as session:
        built = lineage.build_child(session, parent, {"train.py": text}, CommitWords(AUTHOR, 1_790_000_000, "Try"))
    with database.write() as session:
        lineage.store_commit(session, parent.project_id, built)
    with database.read() as session:
        return get_commit(session, built.sha)


@settings(max_examples=choose_examples(15, 500), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXTS, min_size=1, max_size=12))
def test_any_versions_read_back(store: Database, texts: list[str]) -> None:
    names = store_versions(store, texts)
    with store.read() as session:
        read = [objects.read_versions(session, [name])[name].object.data.decode() for name in names]
        assert read == texts
        assert read == [objects.read_versions(session, names)[name].object.data.decode() for name in names]


def test_a_long_history_costs_little_and_chains_end(store: Database) -> None:
    texts = [make_program()]
    for number in range(2 * MAX_CHAIN + 5):
        texts.append(texts[-1].replace(f"weight_{number} = scale", f"weight_{number} = {number} * scale"))
    names = store_versions(store, texts)
    with store.read() as session:
        versions = objects.read_versions(session, names)
        assert [versions[name].object.data.decode() for name in names] == texts
        assert max(version.deltas for version in versions.values()) == MAX_CHAIN
        rows = session.scalars(select(StoredObject)).all()
        assert sum(row.base_sha is None for row in rows) == 1, "a chain that is too long goes back to its beginning"
        assert sum(len(row.data) for row in rows if row.base_sha) / len(rows) < 150


def test_what_has_little_in_common_is_stored_whole(store: Database) -> None:
    names = store_versions(store, [make_program(), make_program(seed=4), ""])
    with store.read() as session:
        assert [objects.read_versions(session, [name])[name].deltas for name in names] == [0, 0, 0]


def test_an_experiment_stores_a_delta_of_its_file(database: Database, root: CommitRow) -> None:
    first = add_child(database, root, make_program())
    second = add_child(database, first, make_program().replace("weight_7 =", "weight_7 = 2 *"))
    with database.read() as session:
        blobs = [objects.list_tree(session, commit.tree_sha)["train.py"] for commit in (first, second)]
        row = session.get_one(StoredObject, blobs[1])
        assert row.base_sha == blobs[0] and len(row.data) < 60
        assert lineage.read_files(session, root.project_id, second.sha)["train.py"].count("weight_7 = 2 *") == 1


def test_large_folders_are_deltas_too(store: Database) -> None:
    files = {f"src/module_{number}.py": build_blob(f"x = {number}\n") for number in range(60)}
    before_sha, before = build_trees({path: blob.sha for path, blob in files.items()})
    with store.write() as session:
        objects.add_objects(session, [objects.encode_one(obj) for obj in (*files.values(), *before)])
    blob = build_blob("x = -1\n")
    after_sha, after = build_trees({path: old.sha for path, old in files.items()} | {"src/module_7.py": blob.sha})
    with store.read() as session:
        old = objects.read_snapshot(session, before_sha)
        new = objects.read_snapshot(session, after_sha, known={tree.sha: tree for tree in after})
        encoded = objects.encode(session, [blob, *after], objects.list_predecessors(new, old))
    with store.write() as session:
        objects.add_objects(session, encoded)
        rows = {row.sha: row for row in encoded}
        folder = new.folders["src"]
        assert rows[folder].base_sha == old.folders["src"] and len(rows[folder].data) < 60
        assert rows[after_sha].base_sha is None, "a tree of one entry is stored whole"
        assert objects.list_tree(session, after_sha) == {path: old_blob.sha for path, old_blob in files.items()} | {
            "src/module_7.py": blob.sha
        }


def test_reading_takes_one_query_for_each_level_of_folders(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = build_blob(f"x = {uuid4().hex!r}\n")  # new, because what was read lately is not asked for again
    root_sha, trees = build_trees({f"a{number}/b{number}/c.py": blob.sha for number in range(9)})
    with store.write() as session:
        objects.add_objects(session, [objects.encode_one(obj) for obj in (blob, *trees)])
    questions: list[str] = []
    with store.read() as session:
        event.listen(session.connection(), "before_cursor_execute", lambda *given: questions.append(given[2]))
        assert len(objects.list_tree(session, root_sha)) == 9
    assert len(questions) == 3, questions


def test_a_base_must_exist(store: Database) -> None:
    blob = build_blob("x = 1\n")
    with pytest.raises(IntegrityError), store.write() as session:
        objects.add_objects(session, [ObjectRow(blob.sha, "blob", 6, zlib.compress(b"whatever"), "0" * 40)])


def test_missing_objects_are_named(store: Database) -> None:
    with store.read() as session:
        with pytest.raises(ObjectMissingError, match="0" * 40):
            objects.read_versions(session, ["0" * 40])
        assert objects.find_missing(session, ["0" * 40]) == {"0" * 40}


@pytest.mark.parametrize("changed", [{"data": b"no zlib"}, {"data": zlib.compress(b"other")}, {"kind": "tree"}])
def test_damage_is_an_error_and_never_an_answer(store: Database, changed: dict[str, object]) -> None:
    names = store_versions(store, [make_program(), make_program() + "x = 1\n"])
    damage(store, names[0], **changed)
    with store.read() as session:
        with pytest.raises(ObjectDamagedError, match=names[0]):
            objects.read_versions(session, [names[0]])
        if "data" in changed:
            with pytest.raises(ObjectDamagedError, match=names[1]):
                objects.read_versions(session, [names[1]])


def test_a_circle_is_an_error(store: Database) -> None:
    names = store_versions(store, [make_program(), make_program() + "x = 1\n"])
    damage(store, names[0], base_sha=names[1])
    with store.read() as session, pytest.raises(ObjectDamagedError, match="against itself"):
        objects.read_versions(session, [names[1]])


def damage(database: Database, sha: str, **changed: object) -> None:
    with database.write() as session:
        session.execute(update(StoredObject).where(StoredObject.sha == sha).values(**changed))


def test_two_writers_may_bring_the_same_objects(store: Database) -> None:
    encoded = [objects.encode_one(build_blob(f"x = {number}\n")) for number in range(200)]
    start = threading.Barrier(4)

    def bring(some: list[ObjectRow]) -> None:
        start.wait()
        with store.write() as session:
            objects.add_objects(session, some)

    threads = [threading.Thread(target=bring, args=[Random(seed).sample(encoded, 150)]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as session:
        stored = session.scalars(select(StoredObject.sha)).all()
        wanted = {obj.sha for seed in range(4) for obj in Random(seed).sample(encoded, 150)}
        assert set(stored) == wanted
