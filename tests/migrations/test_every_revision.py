"""Every revision, those to come included: applied in turn to tables that have rows in them, on both engines."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, MetaData, Table, select

from coordinator.db.database import Database, migration_config
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


def read_tables(connection: Connection) -> Tables:
    """All tables but Alembic's own and indexes that are tables, those that are referred to first."""
    tables = MetaData()
    tables.reflect(connection, only=lambda name, _: include_name(name, "table", None))
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


def list_revisions() -> list[str]:
    scripts = ScriptDirectory(str(Path(__file__).parents[2] / "migrations"))
    return [revision.revision for revision in scripts.walk_revisions()][::-1]


def test_each_revision_keeps_the_rows_of_the_one_before(empty: Database) -> None:
    revisions = list_revisions()
    assert len(revisions) >= 4
    before: Rows = {}
    for revision in revisions:
        with empty.engine.begin() as connection:
            command.upgrade(migration_config(connection), revision)
        with empty.engine.begin() as connection:
            tables = read_tables(connection)
            before_last, before = before, read_rows(connection, tables)
            assert_kept(before_last, before)
            bare = {name: table for name, table in tables.items() if not before[name]}
            fill(connection, bare)
            before |= read_rows(connection, bare)
            assert all(len(rows) >= ROWS for rows in before.values()), f"every table of {revision} has rows"
    with empty.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": include_name})
        assert compare_metadata(context, Base.metadata) == []
    empty.migrate()
    with empty.engine.connect() as connection:
        assert_kept(before, read_rows(connection, read_tables(connection)))
