"""Opens each kind of database: SQLite in WAL mode, or PostgreSQL."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

from pydantic_core import from_json, to_json
from sqlalchemy import URL, Connection, Engine, Pool, Row, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker

SQLITE_BUSY_SECONDS = 30
"""Seconds that SQLite waits for a writer of another process; writers of this process wait for a lock."""

SQLITE_STATEMENTS = 1_000
"""Compiled statements that a connection keeps; Python's default of 128 is less than a whole job needs."""

SQLITE_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "cache_size = -8192",  # KiB a connection may keep at hand of what it read and wrote; SQLite's own 2 MiB are too few
    "wal_autocheckpoint = 4000",  # pages of 4 KiB that may wait in the write-ahead log
)

WRITER_SECONDS = 20.0
"""Seconds that a writer waits for its turn."""

POOL_SIZE, POOL_OVERFLOW = 20, 40
POSTGRESQL_OPTIONS = (
    "-c statement_timeout=30s -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s "
    "-c random_page_cost=1.1"  # 4, made for turning disks, has pages read whole tables instead of some hundred rows
)

POSTGRESQL_DISK_FULL = "53100"
POSTGRESQL_DEADLOCK = "40P01"
POSTGRESQL_TAKEN = "23505"
_IS_WRITING = "swarm_is_writing"

VALUES_AT_ONCE = 500
"""Number of values that one statement takes for a list parameter."""

Value = TypeVar("Value")


class WritersBusyError(Exception):
    """A writer waited too long for its turn."""


UNAVAILABLE_ERRORS = (OperationalError, InterfaceError, PoolTimeoutError, WritersBusyError)
"""Errors that mean: the database cannot be used now, try again later."""


def is_disk_full(error: OperationalError) -> bool:
    """Whether the database's disk has no room."""
    name = getattr(error.orig, "sqlite_errorname", None)
    return name == "SQLITE_FULL" or getattr(error.orig, "sqlstate", None) == POSTGRESQL_DISK_FULL


def make_engine(url: URL) -> Engine:
    """An engine for SQLite or PostgreSQL. Nothing is connected yet."""
    return _make_sqlite_engine(url) if url.get_backend_name() == "sqlite" else _make_postgresql_engine(url)


def is_passing(error: DBAPIError) -> bool:
    """Whether only what others wrote at that moment stood against it, so that the same request may go well now."""
    return isinstance(error, IntegrityError) or getattr(error.orig, "sqlstate", None) == POSTGRESQL_DEADLOCK


LabelledRow = Row[*tuple[Any, ...]]
"""A row of a query: its columns are attributes by their labels."""

Conn = Connection | Session
"""A connection or session: both run statements. Pages have sessions; connections, at half the cost, workers' requests.

A connection loads no objects of models: `select(Model)` gives rows of columns there."""


@contextmanager
def objects_of(connection: Conn) -> Iterator[Session]:
    """A session in a connection's transaction, for the few workers' requests that need objects of models."""
    if isinstance(connection, Session):
        yield connection
    else:
        with Session(connection) as session:
            yield session
            session.flush()


def engine_of(session: Conn) -> Engine:
    """The engine of a connection or session."""
    return session.engine if isinstance(session, Connection) else session.get_bind().engine


def batches(values: Sequence[Value]) -> Iterator[list[Value]]:
    """Values in parts that one statement takes."""
    for start in range(0, len(values), VALUES_AT_ONCE):
        yield list(values[start : start + VALUES_AT_ONCE])


def pool_of(session: Conn) -> Pool:
    """Identifies a connection's database within this process: those that read and that write share it."""
    return engine_of(session).pool


def _make_sqlite_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": SQLITE_BUSY_SECONDS, "cached_statements": SQLITE_STATEMENTS},
        json_serializer=_write_json,
        json_deserializer=from_json,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_use_lifo=True,  # the connection used last has pages and statements cached
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # sessions begin transactions, see below
        for pragma in SQLITE_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    return engine


def begin_on_sqlite(
    engine: Engine, reading: sessionmaker[Session], writing: sessionmaker[Session]
) -> Callable[[Connection], None]:
    """Have sessions on SQLite begin their transactions at their first statement, those that write in turn. Returns what
    begins one that writes on a connection.

    These are events of sessions: with an event of the engine, SQLAlchemy would look for listeners at each statement.
    """
    writer = Lock()  # SQLite alone lets waiting writers poll, with pauses of up to 0.1 s

    def begin_writing(connection: Connection) -> None:
        if not writer.acquire(timeout=WRITER_SECONDS):
            raise WritersBusyError(f"no turn to write within {WRITER_SECONDS:.0f} s")
        connection.info[_IS_WRITING] = True
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    @event.listens_for(reading, "after_begin")
    def _begin_reading(_session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    @event.listens_for(writing, "after_begin")
    def _begin_writing(_session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
        begin_writing(connection)

    @event.listens_for(engine, "checkin")
    def _on_checkin(_connection: Any, record: Any) -> None:
        if record.info.pop(_IS_WRITING, False):
            writer.release()

    return begin_writing


def _write_json(value: Any) -> str:
    """JSON, in a fifth of the time of the standard library."""
    return to_json(value).decode()


def _make_postgresql_engine(url: URL) -> Engine:
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={"options": POSTGRESQL_OPTIONS, "connect_timeout": 10},
        json_serializer=_write_json,
        json_deserializer=from_json,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
    )
