"""Branches, their moves and events of a database from before have today's names."""

from alembic import command
from sqlalchemy import text

from coordinator.db.database import Database, migration_config
from tests.migrations.test_every_revision import empty, fill, read_tables  # noqa: F401 - a fixture

NEW_NAMES = {
    "branches.state": {"living": "active", "resting": "paused"},
    "branch_moves.kind": {"rested": "paused", "woken": "resumed"},
    "events.kind": {"branch_rested": "branch_paused", "branch_woken": "branch_resumed"},
}


def test_states_moves_and_events_are_renamed(empty: Database) -> None:  # noqa: F811 - the fixture
    with empty.engine.begin() as connection:
        command.upgrade(migration_config(connection), "0015")
    with empty.engine.begin() as connection:
        fill(connection, read_tables(connection))
        for place, names in NEW_NAMES.items():
            table, column = place.split(".")
            for row, old in zip(connection.scalars(text(f"select id from {table} order by id")), names, strict=True):
                connection.execute(text(f"update {table} set {column} = :old where id = :id"), {"old": old, "id": row})
    empty.migrate()
    with empty.engine.connect() as connection:
        for place, names in NEW_NAMES.items():
            table, column = place.split(".")
            found = connection.scalars(text(f"select {column} from {table} order by id")).all()
            assert found == list(names.values())
