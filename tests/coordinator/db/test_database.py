"""Opening, migrating and refusing databases."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from coordinator.db.database import Database, DatabaseError
from coordinator.models import Base, include_name


def test_migrations_build_what_the_models_say(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    database.migrate()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": include_name})
        assert compare_metadata(context, Base.metadata) == []
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    database.migrate()
    database.close()


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    database.migrate()
    with database.engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    with pytest.raises(DatabaseError, match="newer version"):
        database.migrate()
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("select version_num from alembic_version").scalar() == "9999"
    database.close()


def test_addresses_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="not a database's address"):
        Database("nonsense")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match="cannot create the folder"):
        Database(f"sqlite:///{tmp_path}/file/a.db").migrate()
    with pytest.raises(DatabaseError, match="names the folder"):
        Database(f"sqlite:///{tmp_path}")


def test_what_fails_is_rolled_back(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    database.migrate()
    with pytest.raises(RuntimeError), database.write() as session:
        session.connection().exec_driver_sql(
            "insert into volunteers (name, role, created_at) values ('ada', 'volunteer', '2026-01-01')"
        )
        raise RuntimeError("after the insert")
    with database.read() as session:
        assert session.connection().exec_driver_sql("select count(*) from volunteers").scalar() == 0
    database.close()
