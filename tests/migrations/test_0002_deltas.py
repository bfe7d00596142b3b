"""A database of the first schema, with rows in it, becomes one that holds deltas."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from coordinator.db.database import Database, migration_config
from coordinator.lineage import objects
from shared.commits import CommitWords, GitObject, build_blob, build_commit, build_trees
from tests.support.databases import PostgresServer
from tests.support.messages import AUTHOR


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of schema 0001."""
    server: PostgresServer | None = None
    address = f"sqlite:///{tmp_path}/coordinator.db"
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        address = server.create()
    database = Database(address)
    with database.engine.begin() as connection:
        command.upgrade(migration_config(connection), "0001")
    yield database
    database.close()
    if server is not None:
        server.drop(address)


def make_objects() -> list[GitObject]:
    blob = build_blob("LEARNING_RATE = 0.003\n" * 50)
    tree_sha, trees = build_trees({"train.py": blob.sha})
    return [blob, *trees, build_commit(tree_sha, None, CommitWords(AUTHOR, 1_790_000_000, "Seed"))]


def test_rows_from_before_are_read_and_serve_as_bases(old: Database) -> None:
    stored = make_objects()
    with old.engine.begin() as connection:
        for obj in stored:
            row = {"sha": obj.sha, "kind": obj.kind, "size": len(obj.data), "data": zlib.compress(obj.data, 9)}
            connection.execute(text("insert into git_objects values (:sha, :kind, :size, :data)"), row)
    old.migrate()
    after = build_blob("LEARNING_RATE = 0.003\n" * 49 + "LEARNING_RATE = 0.004\n")
    with old.read() as session:
        assert [objects.read_versions(session, [obj.sha])[obj.sha].object for obj in stored] == stored
        encoded = objects.encode(session, [after], {after.sha: stored[0].sha})
    with old.write() as session:
        objects.add_objects(session, encoded)
    with old.read() as session:
        assert objects.read_versions(session, [after.sha])[after.sha].chain == [after.sha, stored[0].sha]


def test_a_base_cannot_be_deleted(old: Database) -> None:
    old.migrate()
    base, after = build_blob("x = 1\n" * 99), build_blob("x = 1\n" * 99 + "y = 2\n")
    with old.write() as session:
        objects.add_objects(session, [objects.encode_one(base)])
    with old.write() as session:
        objects.add_objects(session, objects.encode(session, [after], {after.sha: base.sha}))
    with pytest.raises(IntegrityError), old.engine.begin() as connection:
        connection.execute(text("delete from git_objects where base_sha is null"))
