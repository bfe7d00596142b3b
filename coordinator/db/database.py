"""The database: engine, sessions, migrations. The only module that commits.

One request is one transaction. Reads and writes have different sessions, because SQLite wants to know at the
start: a transaction that begins as a read and then writes can fail where one that begins with `BEGIN IMMEDIATE`
waits. A session begins at its first statement, so slow work that comes before it holds no lock.

Handlers that write open their sessions themselves (`with database.look_and_write() as (read, write):`), and
return after the commit: an answer that arrives is an answer that is committed. Handlers that only look may ask for a
`ReadSession`; a dependency costs two more changes of thread.
"""

from collections import deque
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from fastapi import Depends, Request
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from coordinator.db.engine import READ_ONLY, SQLITE_MAPPED, SQLITE_NOT_MAPPED, make_engine
from coordinator.db.locks import AdvisoryLock
from coordinator.db.sessions import DriverConnection, LazySession
from coordinator.models import Base

BACKENDS = ("sqlite", "postgresql")


class DatabaseError(Exception):
    """The database cannot be used; the message says why and what to do."""


class Database:
    """Sessions on one database."""

    def __init__(self, url: str) -> None:
        try:
            self.url = make_url(url)
        except ArgumentError as error:
            raise DatabaseError(f"SWARM_DATABASE_URL is not a database address: {error}") from error
        self.backend = self.url.get_backend_name()
        if self.backend not in BACKENDS:
            raise DatabaseError(
                f"SWARM_DATABASE_URL names {self.backend}; it must be sqlite:///FILE or postgresql://..."
            )
        self.engine, self._ways = make_engine(self.url)
        self._spare = deque[PoolProxiedConnection]()
        self._read_engine = self.engine.execution_options(**{READ_ONLY: True}, **self._reading_options())

    def _reading_options(self) -> dict[str, Any]:
        """PostgreSQL: one snapshot for the whole request, as SQLite gives by itself."""
        if self.backend == "sqlite":
            return {}
        return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for looking; whatever it changed is rolled back."""
        with self._connect() as driven, LazySession(self._read_engine, driven) as session:
            yield session
            if driven is None:  # nothing can have changed; a rollback makes psycopg forget its statements
                session.end()

    @contextmanager
    def scan(self) -> Iterator[Session]:
        """As `read`, to go through whole tables. SQLite then does not map its file: all of it would come to count as
        this process's memory."""
        with self.read() as session:
            if self.backend != "sqlite":
                yield session
                return
            session.execute(text(f"PRAGMA {SQLITE_NOT_MAPPED}"))
            try:
                yield session
            finally:
                session.execute(text(f"PRAGMA {SQLITE_MAPPED}"))

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session for changing: commits at the end, rolls everything back on an exception."""
        with self._connect() as driven, LazySession(self.engine, driven, to_write=True) as session:
            yield session
            _commit(session, driven)

    def look_and_write(self) -> "LookAndWrite":
        """Both of them, for who looks first and then writes. On SQLite they share a connection, one after the other."""
        driven = self._drive()
        return LookAndWrite(
            LazySession(self._read_engine, driven), LazySession(self.engine, driven, to_write=True), driven
        )

    @contextmanager
    def _connect(self) -> Iterator[DriverConnection | None]:
        """The driver's connection that sessions share; None where SQLAlchemy begins and ends their transactions."""
        driven = self._drive()
        with closing(driven) if driven else nullcontext():
            yield driven

    def _drive(self) -> DriverConnection | None:
        return None if self._ways is None else DriverConnection(self.engine, self._ways, self._spare)

    def migrate(self) -> None:
        """Bring the schema up to date. Raises DatabaseError if it cannot be opened or is newer than this program."""
        if self.backend == "sqlite":
            _make_folder(self.url.database)
        try:
            with self.engine.connect() as connection, _one_at_a_time(connection):
                revisions = MigrationContext.configure(connection).get_current_heads()
                refuse_newer(revisions)
                if set(revisions) != _known_revisions().heads:
                    command.upgrade(migration_config(connection), "head")
                    connection.commit()
        except OperationalError as error:
            raise DatabaseError(f"the database {self.safe_url} cannot be opened: {error.orig}") from error

    @property
    def safe_url(self) -> str:
        """The address without its password."""
        return self.url.render_as_string(hide_password=True)

    def is_writing(self) -> bool:
        """Whether somebody in this process writes now. Known of SQLite only, where all others would wait."""
        return self._ways is not None and self._ways.is_writing()

    def count_held(self) -> int:
        """How many connections are in somebody's hands."""
        pool = self.engine.pool
        assert isinstance(pool, QueuePool)
        return pool.checkedout() - len(self._spare)

    def close(self) -> None:
        while self._spare:
            self._spare.pop().close()
        self.engine.dispose()


class LookAndWrite:
    """A session to look and one to change, around what a request does: ends as `Database.write`.

    Not a generator, since every request of a job comes through here.
    """

    def __init__(self, read: LazySession, write: LazySession, driven: DriverConnection | None) -> None:
        self._read, self._write, self._driven = read, write, driven

    def __enter__(self) -> tuple[Session, Session]:
        return self._read, self._write

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None:
                _commit(self._write, self._driven)
                if self._driven is None:
                    self._read.end()
        finally:
            _close_each(self._write, self._read, *([self._driven] if self._driven else []))


def _close_each(first: LazySession | DriverConnection, *others: LazySession | DriverConnection) -> None:
    """Close one after the other, whatever closing them raises."""
    try:
        first.close()
    finally:
        if others:
            _close_each(*others)


def _commit(session: LazySession, driven: DriverConnection | None) -> None:
    session.flush()
    if driven is None:
        session.end()
    else:
        driven.commit()


def migration_config(connection: Connection) -> Config:
    """Alembic's configuration for an open connection."""
    config = Config()
    config.set_main_option("script_location", str(resources.files("migrations")))
    config.attributes["connection"] = connection
    config.attributes["metadata"] = Base.metadata
    return config


@contextmanager
def _one_at_a_time(connection: Connection) -> Iterator[None]:
    """Several replicas may start at once on one PostgreSQL; they migrate in turn."""
    if connection.dialect.name != "postgresql":
        yield
        return
    connection.execute(text("select pg_advisory_lock(:number)"), {"number": int(AdvisoryLock.MIGRATION)})
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("select pg_advisory_unlock(:number)"), {"number": int(AdvisoryLock.MIGRATION)})


class _Revisions(NamedTuple):
    heads: frozenset[str]
    all: frozenset[str]


@cache
def _known_revisions() -> _Revisions:
    """The schema's revisions. Alembic runs every script to know them, so they are read once."""
    scripts = ScriptDirectory(str(resources.files("migrations")))
    return _Revisions(
        heads=frozenset(scripts.get_heads()),
        all=frozenset(script.revision for script in scripts.walk_revisions()),
    )


def refuse_newer(revisions: Collection[str]) -> None:
    """Raise DatabaseError for a schema that this program does not know."""
    unknown = set(revisions) - _known_revisions().all
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


async def _get_database(request: Request) -> Database:
    database = request.app.state.database
    assert isinstance(database, Database)
    return database


def _read_session(database: Annotated[Database, Depends(_get_database)]) -> Iterator[Session]:
    with database.read() as session:
        yield session


CurrentDatabase = Annotated[Database, Depends(_get_database)]
ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
