"""Sessions that cost little to begin, and the connection of SQLite's that they share."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, Engine, Pool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import PoolProxiedConnection

Way = Callable[[PoolProxiedConnection], None]

MAX_SPARE = 4
"""So many connections wait outside the pool for the next who needs one."""

BEGUN = "swarm_begun"
"""Mark on a connection whose transaction was begun on the driver's connection before SQLAlchemy heard of it."""


class Ways(NamedTuple):
    """How a transaction begins on the driver's connection, what is to be done at the end of each, and whether there is
    one now that writes."""

    begin_read: Way
    begin_write: Way
    end_write: Way
    is_writing: Callable[[], bool]


class DriverConnection:
    """A connection of the pool that is taken when first needed: to look, to change, or first the one, then the other.

    A connection of SQLite's has at hand what it read and wrote itself; after a commit by another one it begins with
    nothing. So who looks and then writes does both on one. What is looked at after the writing began is within it.
    """

    def __init__(self, engine: Engine, ways: Ways, spare: deque[PoolProxiedConnection]) -> None:
        """`spare` are connections that wait for the next who needs one, which is quicker than through the pool."""
        self._engine, self._ways, self._spare = engine, ways, spare
        self._pooled: PoolProxiedConnection | None = None
        self._driver: Any = None
        self._is_writing = False

    def take(self, to_write: bool) -> Any:
        """The driver's connection, within a transaction. One that looked ends where there is something to write, so
        that nobody waits for it."""
        if to_write:
            if not self._is_writing:
                self._change()
        elif self._pooled is None:
            self._ways.begin_read(self._connect())
        return self._driver

    def take_pooled(self, to_write: bool) -> PoolProxiedConnection:
        """The same, as SQLAlchemy wants it."""
        self.take(to_write)
        assert self._pooled is not None
        return self._pooled

    def _change(self) -> None:
        if self._pooled is None:
            pooled = self._connect()
        else:
            pooled = self._pooled
            self._driver.rollback()
        self._ways.begin_write(pooled)
        self._is_writing = True

    def _connect(self) -> PoolProxiedConnection:
        try:
            self._pooled = self._spare.pop()
        except IndexError:
            self._pooled = self._open()
        self._driver = self._pooled.driver_connection
        return self._pooled

    def _open(self) -> PoolProxiedConnection:
        base = self._engine.dialect.loaded_dbapi.Error
        try:
            return self._engine.raw_connection()
        except base as error:
            raise DBAPIError.instance("CONNECT", None, error, base, dialect=self._engine.dialect) from error

    def commit(self) -> None:
        """Commit what was written. A connection that could not is thrown away, with its transaction."""
        if not self._is_writing:
            return
        assert self._pooled is not None
        base = self._engine.dialect.loaded_dbapi.Error
        is_committed = False
        try:
            self._engine.dialect.do_commit(self._pooled)
            is_committed = True
        except base as error:
            raise DBAPIError.instance("COMMIT", None, error, base, dialect=self._engine.dialect) from error
        finally:
            if not is_committed:
                self._pooled.invalidate()

    def close(self) -> None:
        """Give the connection back. What was not committed is rolled back."""
        pooled, driver = self._pooled, self._driver
        if pooled is None:
            return
        self._pooled, self._driver, self._is_writing = None, None, False
        try:
            if pooled.is_valid and driver.in_transaction:
                driver.rollback()
        except self._engine.dialect.loaded_dbapi.Error:
            pooled.invalidate()
        if not pooled.is_valid or len(self._spare) >= MAX_SPARE:
            pooled.close()
            return
        self._ways.end_write(pooled)
        self._spare.append(pooled)


class LazySession(Session):
    """A session whose connection and transaction are begun at its first statement, by itself.

    SQLAlchemy's own way to begin takes three times as long, and every request does it once or twice. With `driven` not
    even SQLAlchemy's `Connection` is made before something asks for it: prepared statements need the driver's only. The
    transaction then ends with the `DriverConnection`, else with `end`.

    What a `Session` consists of is made when something first asks for a part of it.
    """

    def __init__(self, engine: Engine, driven: DriverConnection | None = None, to_write: bool = False) -> None:
        # Session's own `__init__` follows in `__getattr__`.
        self._is_session = False
        self.engine = engine
        self._driven = driven
        self._to_write = to_write
        self._opened: Connection | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A part of `Session`, all of which are made now."""
            if self._is_session:
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
            self._is_session = True
            super().__init__()
            return getattr(self, name)

    @property
    def driver(self) -> Any:
        """The driver's connection, within the session's transaction."""
        if self._driven is None:
            return self.get_bind().connection.driver_connection
        return self._driven.take(self._to_write)

    def get_bind(self, *_about: Any, **_more: Any) -> Connection:
        """The connection that statements run on, within a transaction. Called by SQLAlchemy."""
        if self._driven is not None:
            pooled = self._driven.take_pooled(self._to_write)  # asked each time, for it may begin to write
        if self._opened is None:
            if self._driven is None:
                self._opened = self.engine.connect()
            else:
                self._opened = Connection(self.engine, connection=pooled)
                pooled.info[BEGUN] = True
            self._opened.begin()
        return self._opened

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Write what was added or changed as objects, if there can be any."""
        if self._is_session:
            super().flush(objects)

    def end(self) -> None:
        """Commit, if there was any statement. A connection that could not is thrown away, with its transaction."""
        if self._opened is None:
            return
        is_committed = False
        try:
            self._opened.commit()
            is_committed = True
        finally:
            if not is_committed:
                self._opened.invalidate()

    def close(self) -> None:
        """Let go of the connection. What was not committed is rolled back."""
        if self._is_session and self.in_transaction():  # else it was never asked for anything
            super().close()
        if self._opened is not None and self._driven is None:
            self._opened.close()
        self._opened = None


def engine_of(session: Session) -> Engine:
    """A session's engine, without a connection."""
    return session.engine if isinstance(session, LazySession) else session.get_bind().engine


def pool_of(session: Session) -> Pool:
    """What stands for a session's database within this process: sessions to look and to write have it in common."""
    return engine_of(session).pool
