"""The database: engine, sessions, migrations. The only module that commits.

One request is one transaction. SQLite must know at the start whether a transaction writes: one that begins as a read
and then writes can fail where one that begins with `BEGIN IMMEDIATE` waits. So code reads and prepares in
`database.read()`, then changes rows in `database.write()`, which commits when its block ends and before the response
is sent.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request
from sqlalchemy import URL, Connection, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import QueuePool

from coordinator.db.engine import begin_on_sqlite, is_disk_full, make_engine
from coordinator.db.locks import AdvisoryLock
from coordinator.models import Base

if TYPE_CHECKING:
    from alembic.config import Config

SMALLEST_FREE_BYTES = 256 * 1024
ONE_SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
"""Options by which PostgreSQL shows one snapshot to a whole request, as SQLite does by itself."""

AUTOCOMMIT = {"isolation_level": "AUTOCOMMIT"}
EXAMPLES = "Examples: sqlite:////srv/swarm/coordinator.db, postgresql://swarm@localhost/swarm"


class DatabaseError(Exception):
    """The database cannot be used; the message says why and what to do."""


def parse_address(text: str) -> URL:
    """A database's address, with the driver that this program uses. Raises DatabaseError, without a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise DatabaseError(f"SWARM_DATABASE_URL is not a database's address. {EXAMPLES}") from error
    kind = url.get_backend_name()
    if kind in ("postgres", "postgresql"):
        return url.set(drivername="postgresql")
    if kind != "sqlite":
        raise DatabaseError(f"SWARM_DATABASE_URL names {kind}; it must be SQLite or PostgreSQL. {EXAMPLES}")
    if not url.database or ":memory:" in url.database or url.host or url.query:
        raise DatabaseError(
            "SWARM_DATABASE_URL must name a file, with three slashes before a relative path and four before an "
            f"absolute one, and no options. {EXAMPLES}"
        )
    if Path(url.database).is_dir():
        raise DatabaseError(f"SWARM_DATABASE_URL names the folder {url.database}; it must name a file in it.")
    return url.set(drivername="sqlite")


class Database:
    """Sessions on one database."""

    def __init__(self, url: str) -> None:
        self.url = parse_address(url)
        self.backend = self.url.get_backend_name()
        self.engine = make_engine(self.url)
        is_sqlite = self.backend == "sqlite"
        self._reading = sessionmaker(self.engine if is_sqlite else self.engine.execution_options(**ONE_SNAPSHOT))
        self._writing = sessionmaker(self.engine)
        self._without_transaction = self.engine if is_sqlite else self.engine.execution_options(**AUTOCOMMIT)
        self._begin_writing = begin_on_sqlite(self.engine, self._reading, self._writing) if is_sqlite else None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that reads; its changes are rolled back."""
        with self._reading() as session:
            yield session
            if self.backend == "postgresql":  # nothing can have changed; a rollback makes psycopg forget its statements
                session.expunge_all()
                session.commit()

    @contextmanager
    def read_one(self) -> Iterator[Session]:
        """A session for one statement that reads, which needs no transaction around it."""
        with Session(self._without_transaction) as session:
            yield session

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection whose statements read each by itself. It costs half of what a session does."""
        with self._without_transaction.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that writes: it commits at the end, or rolls back on an exception. SQLite has one at a time."""
        with self._writing.begin() as session:
            yield session

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """As `write`, with a connection in the session's place."""
        with self.engine.connect() as connection, connection.begin():
            if self._begin_writing is not None:
                self._begin_writing(connection)
            yield connection

    def migrate(self) -> bool:
        """Bring the schema up to date. Returns whether there was none.

        Raises DatabaseError if the database cannot be opened or is newer than this program.
        """
        if self.backend == "sqlite":
            _make_folder(self.url.database)
        try:
            with self.engine.connect() as connection, _one_at_a_time(connection):
                revision = _read_revision(connection)
                refuse_newer(revision)
                if revision != list_revisions()[-1]:
                    from alembic import command  # noqa: PLC0415 - a tenth of a command's time, where nothing is to do

                    command.upgrade(migration_config(connection), "head")
                    connection.commit()
                return revision is None
        except OperationalError as error:
            if is_disk_full(error) or self._has_full_disk():
                raise DatabaseError(
                    f"the disk that holds the database {self.safe_url} is full ({error.orig}). Make room there."
                ) from error
            raise DatabaseError(f"the database {self.safe_url} cannot be opened: {error.orig}") from error

    def _has_full_disk(self) -> bool:
        """Whether SQLite's folder has less room than opening a database takes; its error then names other reasons."""
        folder = Path(self.url.database or "").absolute().parent
        return self.backend == "sqlite" and folder.exists() and disk_usage(folder).free < SMALLEST_FREE_BYTES

    def is_current(self) -> bool:
        """Whether the schema is the one of this program. Asks the database."""
        with self.engine.connect() as connection:
            return _read_revision(connection) == list_revisions()[-1]

    @property
    def safe_url(self) -> str:
        """The address without its password."""
        return self.url.render_as_string(hide_password=True)

    def count_held(self) -> int:
        """Number of connections in use."""
        pool = self.engine.pool
        assert isinstance(pool, QueuePool)
        return pool.checkedout()

    def close(self) -> None:
        self.engine.dispose()


def migration_config(connection: Connection) -> "Config":
    """Alembic's configuration for an open connection."""
    from alembic.config import Config  # noqa: PLC0415 - as in `migrate`

    config = Config()
    config.set_main_option("script_location", str(resources.files("migrations")))
    config.attributes["connection"] = connection
    config.attributes["metadata"] = Base.metadata
    return config


@contextmanager
def _one_at_a_time(connection: Connection) -> Iterator[None]:
    """Several processes may start at once on one database; they migrate in turn."""
    if connection.dialect.name != "postgresql":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
        return
    connection.execute(text("select pg_advisory_lock(:number)"), {"number": int(AdvisoryLock.MIGRATION)})
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("select pg_advisory_unlock(:number)"), {"number": int(AdvisoryLock.MIGRATION)})


@cache
def list_revisions() -> tuple[str, ...]:
    """The schema's revisions, oldest first: the numbers with which the files of migrations begin."""
    files = resources.files("migrations").joinpath("versions").iterdir()
    return tuple(sorted(file.name.partition("_")[0] for file in files if file.name[0].isdigit()))


def _read_revision(connection: Connection) -> str | None:
    """The revision of a database's schema; None where there is no schema."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("select version_num from alembic_version"))
    return revision


def refuse_newer(revision: str | None) -> None:
    """Raise DatabaseError for a schema that this program does not know."""
    if revision is not None and revision not in list_revisions():
        raise DatabaseError(
            f"the database is of a newer version of research-swarm (schema {revision}). "
            "Update this program, or point SWARM_DATABASE_URL at another database."
        )


def _make_folder(database: str | None) -> None:
    folder = Path(database or "").absolute().parent
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


def _write_session(database: Annotated[Database, Depends(_get_database)]) -> Iterator[Session]:
    with database.write() as session:
        yield session


CurrentDatabase = Annotated[Database, Depends(_get_database)]
ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
WriteSession = Annotated[Session, Depends(_write_session, scope="function")]
"""Commits when the handler has returned, and before the response is sent."""
