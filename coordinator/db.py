"""The database: engine, sessions, migrations. The only module that commits.

One request is one transaction. Reads and writes have different sessions, because SQLite wants to know at the
start: a transaction that begins as a read and then writes can fail where one that begins with `BEGIN IMMEDIATE`
waits. A session begins at its first statement, so slow work that comes before it holds no lock. FastAPI runs a
dependency's exit after the response by default; ours run before it (`scope="function"`), so an answer that
arrives is an answer that is committed.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from fastapi import Depends, Request
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import Session

from coordinator.models import Base

SQLITE_BUSY_SECONDS = 30
BEGIN_OPTION = "sqlite_begin"


class DatabaseError(Exception):
    """The database cannot be used; the message says why and what to do."""


class Database:
    """Sessions on one database."""

    def __init__(self, url: str) -> None:
        try:
            self.url = make_url(url)
        except ArgumentError as error:
            raise DatabaseError(f"SWARM_DATABASE_URL is not a database address: {error}") from error
        self._is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(str(self.url)) if self._is_sqlite else create_engine(self.url, pool_pre_ping=True)
        self._write_engine = self.engine.execution_options(**{BEGIN_OPTION: "BEGIN IMMEDIATE"})

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for looking; whatever it changed is rolled back."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session for changing: commits at the end, rolls everything back on an exception."""
        with Session(self._write_engine) as session, session.begin():
            yield session

    def migrate(self) -> None:
        """Bring the schema up to date. Raises DatabaseError if it cannot be opened or is newer than this program."""
        if self._is_sqlite:
            _make_folder(self.url.database)
        try:
            with self.engine.connect() as connection:
                config = migration_config(connection)
                _refuse_newer(connection, config)
                command.upgrade(config, "head")
                connection.commit()
        except OperationalError as error:
            raise DatabaseError(f"the database {self.safe_url} cannot be opened: {error.orig}") from error

    @property
    def safe_url(self) -> str:
        """The address without its password."""
        return self.url.render_as_string(hide_password=True)

    def close(self) -> None:
        self.engine.dispose()


def migration_config(connection: Connection) -> Config:
    """Alembic's configuration for an open connection."""
    config = Config()
    config.set_main_option("script_location", str(resources.files("migrations")))
    config.attributes["connection"] = connection
    config.attributes["metadata"] = Base.metadata
    return config


def _refuse_newer(connection: Connection, config: Config) -> None:
    known = {revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_heads()
    unknown = set(current) - known
    if unknown:
        raise DatabaseError(
            f"the database is of a newer version of research-swarm (schema {', '.join(sorted(unknown))}). "
            "Update this program, or point SWARM_DATABASE_URL at another database."
        )


def _make_folder(database: str | None) -> None:
    if not database or database == ":memory:":
        return
    folder = Path(database).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(f"cannot create the folder {folder}: {error.strerror}") from error


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_SECONDS}, pool_size=20, max_overflow=40)

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's begin event below says how a transaction starts
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(BEGIN_OPTION, "BEGIN"))

    return engine


def _get_database(request: Request) -> Database:
    database = request.app.state.database
    assert isinstance(database, Database)
    return database


def _read_session(database: Annotated[Database, Depends(_get_database)]) -> Iterator[Session]:
    with database.read() as session:
        yield session


def _write_session(database: Annotated[Database, Depends(_get_database)]) -> Iterator[Session]:
    with database.write() as session:
        yield session


ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
WriteSession = Annotated[Session, Depends(_write_session, scope="function")]
