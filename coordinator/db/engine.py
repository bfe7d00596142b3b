"""How each kind of database is opened: SQLite in WAL mode with one fair queue of writers, or PostgreSQL."""

import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock, local
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import PoolProxiedConnection

from coordinator.db.sessions import BEGUN, Ways

SQLITE_BUSY_SECONDS = 30
"""How long SQLite waits for a writer of another process; writers of this one stand in `WriterQueue`. A thread that may
not wait is told at once."""

SQLITE_STATEMENTS = 1_000
"""Compiled statements that a connection keeps; Python's own 128 are fewer than those of a whole job."""

SQLITE_MAPPED = "mmap_size = 1073741824"
SQLITE_NOT_MAPPED = "mmap_size = 0"

SQLITE_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    SQLITE_MAPPED,  # bytes of the file that are read in place; each commit of others empties the page cache
    "cache_size = -8192",  # KiB a connection may keep at hand of what it read and wrote; SQLite's own 2 MiB are too few
    "wal_autocheckpoint = 4000",  # pages of 4 KiB that may wait in the write-ahead log
)

QUEUE_SECONDS = 20.0
POOL_SIZE, POOL_OVERFLOW = 20, 40
POSTGRESQL_OPTIONS = "-c statement_timeout=30s -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s"

READ_ONLY = "swarm_read_only"
"""Execution option of an engine: its transactions only look."""

PRIMARY_CODE = 0xFF
"""Of SQLite's error codes the lowest byte is the kind; the others tell the cases of it apart."""

_IS_WRITING, _WAITS = "swarm_is_writing", "swarm_waits"


class WouldWaitError(Exception):
    """Somebody else writes, and this thread may not wait."""


class _Patience(local):
    """Whether the thread may wait for other writers. One that has an event loop to run may not."""

    waits = True


_patience = _Patience()


@contextmanager
def without_waiting() -> Iterator[None]:
    """Where this thread would have to wait for a writer of SQLite's, it raises WouldWaitError instead."""
    _patience.waits = False
    try:
        yield
    finally:
        _patience.waits = True


class WritersBusyError(Exception):
    """A writer waited too long for its turn."""


UNAVAILABLE_ERRORS = (OperationalError, InterfaceError, PoolTimeoutError, WritersBusyError)
"""The errors that mean: the database cannot be used now, try again later."""


class WriterQueue:
    """A lock that is handed on in the order of asking.

    SQLite has one writer at a time and lets waiting ones poll, so under load some wait many times longer than others.
    Here they stand in a line.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: deque[Event] = deque()
        self._held = False

    def enter(self, timeout: float = QUEUE_SECONDS) -> None:
        """Wait for one's turn. Raises WritersBusyError after `timeout` seconds, WouldWaitError `without_waiting`."""
        with self._lock:
            if not self._held:
                self._held = True
                return
            if not _patience.waits:
                raise WouldWaitError
            turn = Event()
            self._waiting.append(turn)
        if not turn.wait(timeout):
            with self._lock:
                if not turn.is_set():
                    self._waiting.remove(turn)
                    raise WritersBusyError(f"no turn to write within {timeout:.0f} s")

    def is_held(self) -> bool:
        """Whether it is somebody's turn now."""
        return self._held

    def leave(self) -> None:
        """Hand on to who waits longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._held = False


class OpenedEngine(NamedTuple):
    """An engine, and how transactions begin and end on its driver's connections. None: by SQLAlchemy."""

    engine: Engine
    ways: Ways | None = None


def make_engine(url: URL) -> OpenedEngine:
    """An engine for SQLite or PostgreSQL. Nothing is connected yet."""
    return _make_sqlite_engine(url) if url.get_backend_name() == "sqlite" else _make_postgresql_engine(url)


def _make_sqlite_engine(url: URL) -> OpenedEngine:
    engine = create_engine(
        url,
        connect_args={"timeout": SQLITE_BUSY_SECONDS, "cached_statements": SQLITE_STATEMENTS},
        json_serializer=_write_json,
        json_deserializer=from_json,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_use_lifo=True,  # who was used last has pages and statements at hand
    )
    writers = WriterQueue()

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # the begin event below says how a transaction starts
        for pragma in SQLITE_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    def begin_read(pooled: PoolProxiedConnection) -> None:
        _drive(pooled, "BEGIN")  # takes no lock, so it cannot fail

    def begin_write(pooled: PoolProxiedConnection) -> None:
        writers.enter()
        pooled.info[_IS_WRITING] = True
        if pooled.info.get(_WAITS, True) is not _patience.waits:
            pooled.info[_WAITS] = _patience.waits
            _drive(pooled, f"PRAGMA busy_timeout = {SQLITE_BUSY_SECONDS * 1000 if _patience.waits else 0}")
        try:
            _drive(pooled, "BEGIN IMMEDIATE")
        except OperationalError as error:
            if not _patience.waits and getattr(error.orig, "sqlite_errorcode", 0) & PRIMARY_CODE == sqlite3.SQLITE_BUSY:
                raise WouldWaitError from error
            raise

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        if not connection.info.pop(BEGUN, False):
            is_read = connection.get_execution_options().get(READ_ONLY)
            (begin_read if is_read else begin_write)(connection.connection)

    def end_write(pooled: Any) -> None:
        if pooled.info.pop(_IS_WRITING, False):
            writers.leave()

    @event.listens_for(engine, "checkin")
    def _on_checkin(_connection: Any, record: Any) -> None:
        end_write(record)

    return OpenedEngine(engine, Ways(begin_read, begin_write, end_write, writers.is_held))


def _write_json(value: Any) -> str:
    """JSON in a fifth of the time that the standard library takes."""
    return to_json(value).decode()


def _drive(pooled: PoolProxiedConnection, sql: str) -> None:
    """Run a statement on SQLite's own connection. Raises OperationalError as SQLAlchemy would."""
    driver: Any = pooled.driver_connection
    try:
        driver.execute(sql)
    except sqlite3.Error as error:
        raise DBAPIError.instance(sql, None, error, sqlite3.Error) from error


def _make_postgresql_engine(url: URL) -> OpenedEngine:
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={"options": POSTGRESQL_OPTIONS, "connect_timeout": 10},
        json_serializer=_write_json,
        json_deserializer=from_json,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_pre_ping=True,
    )
    return OpenedEngine(engine)
