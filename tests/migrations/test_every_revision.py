"""Every revision, those to come included: applied in turn to tables that have rows in them, on both engines."""

import re
from collections.abc import Callable, Iterator, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, MetaData, Table, event, select

from coordinator.db.database import Database, list_revisions, migration_config
from coordinator.models import Base, include_name
from tests.support.databases import PostgresServer

ROWS = 2
MOVED = {"leases": frozenset({"context", "findings_read"})}
"""Columns that a revision moves to another table; a test of that revision looks for them there."""

RENAMED = {
    ("branches", "fruitless"): "experiments_without_gain",
    ("branches", "state", "living"): "active",
    ("runs", "trust", "established"): "newcomer",
    ("runs", "is_check", True): False,
    ("class_progress", "is_stale", False): True,
}
"""Columns and values that a revision renames; a test of that revision looks for the rest of its values."""

Rows = dict[str, list[dict[str, Any]]]
"""Table -> rows."""

Tables = dict[str, Table]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables."""
    server: PostgresServer | None = None
    address = f"sqlite:///{tmp_path}/coordinator.db"
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        address = server.create()
    database = Database(address)
    yield database
    database.close()
    if server is not None:
        server.drop(address)


def read_tables(connection: Connection, named: Set[str] | None = None) -> Tables:
    """All tables, or those `named` and what they refer to, but Alembic's own and indexes that are tables, those that
    are referred to first."""
    tables = MetaData()
    is_read: Callable[[str, Any], bool] = lambda name, _: (  # noqa: E731
        include_name(name, "table", None) and (named is None or name in named)
    )
    tables.reflect(connection, only=is_read)
    return {table.name: table for table in tables.sorted_tables if table.name != "alembic_version"}


def make_value(column: Column[Any], number: int) -> Any:
    """A value that is different in each row. Rows refer to those of the same number, and first ones to nothing."""
    for key in column.foreign_keys:
        if key.column.table is not column.table:
            return make_value(key.column, number)
        return make_value(key.column, 0) if number else None
    kind = column.type.python_type
    if kind in (int, float, bool):
        return kind(number + 1)
    if kind is datetime:
        return datetime(2026, 1, 1 + number, tzinfo=UTC if getattr(column.type, "timezone", False) else None)
    text = f"{column.name} {number}"
    others: dict[type, Any] = {bytes: text.encode(), dict: {"text": text}, list: [text], UUID: UUID(int=number + 1)}
    return others[kind] if kind in others else text[: getattr(column.type, "length", None) or len(text)]


def fill(connection: Connection, tables: Tables) -> None:
    """Put rows into tables that have none."""
    for table in tables.values():
        for number in range(ROWS):
            connection.execute(table.insert(), {column.name: make_value(column, number) for column in table.columns})


def read_rows(connection: Connection, tables: Tables) -> Rows:
    return {
        name: [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]
        for name, table in tables.items()
    }


def assert_kept(before: Rows, after: Rows) -> None:
    """Each row is there, with all of its values, under their old or new names."""
    for table, rows in before.items():
        moved = MOVED[table] - after[table][0].keys() if table in MOVED else frozenset()
        assert len(after[table]) == len(rows), table
        for row, kept in zip(rows, after[table], strict=True):
            for name in row.keys() - moved:
                value = kept[name if name in kept else RENAMED[table, name]]
                assert value == row[name] or value == RENAMED[table, name, row[name]], (table, name)


def upgrade(database: Database, scripts: ScriptDirectory, revision: str) -> set[str]:
    """Apply a revision, as Alembic's command does; returns all words of its statements, and so the tables in them."""
    words: set[str] = set()

    def note(connection: Any, cursor: Any, statement: str, *more: object) -> None:
        words.update(re.findall(r"\w+", statement))

    def steps(current: Any, context: MigrationContext) -> Any:
        return scripts._upgrade_revs(revision, current)

    event.listen(database.engine, "before_cursor_execute", note)
    with database.engine.begin() as connection, EnvironmentContext(migration_config(connection), scripts, fn=steps):
        scripts.run_env()
    event.remove(database.engine, "before_cursor_execute", note)
    return words


def test_each_revision_keeps_the_rows_of_the_one_before(empty: Database) -> None:
    """After each, the tables that its statements name are read, and all of them after the last."""
    scripts = ScriptDirectory(str(Path(__file__).parents[2] / "migrations"))
    revisions = [revision.revision for revision in scripts.walk_revisions()][::-1]
    assert len(revisions) >= 4 and tuple(revisions) == list_revisions()
    before: Rows = {}
    for revision in revisions:
        words = upgrade(empty, scripts, revision)
        with empty.engine.begin() as connection:
            tables = read_tables(connection, words)
            after = read_rows(connection, tables)
            assert_kept({name: rows for name, rows in before.items() if name in words | after.keys()}, after)
            bare = {name: table for name, table in tables.items() if not after[name]}
            fill(connection, bare)
            after |= read_rows(connection, bare)
            assert all(len(rows) >= ROWS for rows in after.values()), f"every table of {revision} has rows"
            before |= after
    with empty.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": include_name})
        assert compare_metadata(context, Base.metadata) == []
    empty.migrate()
    with empty.engine.connect() as connection:
        assert_kept(before, read_rows(connection, read_tables(connection)))
