"""Sessions that cost little to begin, and the connection of SQLite's that they share."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, Pool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import PoolProxiedConnection

Begin = Callable[[PoolProxiedConnection], None]
"""Begins a transaction on the driver's connection."""

Take = Callable[[], PoolProxiedConnection]
"""Gives the driver's connection, within the transaction that is wanted."""

BEGUN = "swarm_begun"
"""Mark on a connection whose transaction was begun on the driver's connection before SQLAlchemy heard of it."""


class DriverConnection:
    """A connection of the pool that is taken when first needed: to look, to change, or first the one, then the other.

    A connection of SQLite's has at hand what it read and wrote itself; after a commit by another one it begins with
    nothing. So who looks and then writes does both on one. What is looked at after the writing began is within it.
    """

    def __init__(self, engine: Engine, begin_read: Begin, begin_write: Begin) -> None:
        self._engine = engine
        self._begin_read, self._begin_write = begin_read, begin_write
        self._pooled: PoolProxiedConnection | None = None
        self._is_writing = False

    def look(self) -> PoolProxiedConnection:
        """The connection, within a transaction."""
        if self._pooled is None:
            self._pooled = self._connect()
            self._begin_read(self._pooled)
        return self._pooled

    def change(self) -> PoolProxiedConnection:
        """The connection, within a transaction that may write. One that looked ends, so that nobody waits for it."""
        if self._is_writing:
            assert self._pooled is not None
            return self._pooled
        if self._pooled is None:
            self._pooled = self._connect()
        else:
            self._engine.dialect.do_rollback(self._pooled)
        self._begin_write(self._pooled)
        self._is_writing = True
        return self._pooled

    def _connect(self) -> PoolProxiedConnection:
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
        if self._pooled is not None:
            self._pooled.close()
            self._pooled, self._is_writing = None, False


class LazySession(Session):
    """A session whose connection and transaction are begun at its first statement, by itself.

    SQLAlchemy's own way to begin takes three times as long, and every request does it once or twice. With `take` not
    even SQLAlchemy's `Connection` is made before something asks for it: prepared statements need the driver's only. The
    transaction then ends with the `DriverConnection`, else with `end`.
    """

    def __init__(self, engine: Engine, take: Take | None = None) -> None:
        super().__init__()
        self._engine = engine
        self._take = take
        self._opened: Connection | None = None

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def driver(self) -> Any:
        """The driver's connection, within the session's transaction."""
        if self._take is None:
            return self.get_bind().connection.driver_connection
        return self._take().driver_connection

    def get_bind(self, *_about: Any, **_more: Any) -> Connection:
        """The connection that statements run on, within a transaction. Called by SQLAlchemy."""
        if self._take is not None:
            pooled = self._take()  # asked each time, for it may begin to write
        if self._opened is None:
            if self._take is None:
                self._opened = self._engine.connect()
            else:
                self._opened = Connection(self._engine, connection=pooled)
                pooled.info[BEGUN] = True
            self._opened.begin()
        return self._opened

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
        if self.in_transaction():  # else it was never asked for anything
            super().close()
        if self._opened is not None and self._take is None:
            self._opened.close()
        self._opened = None


def engine_of(session: Session) -> Engine:
    """A session's engine, without a connection."""
    return session.engine if isinstance(session, LazySession) else session.get_bind().engine


def pool_of(session: Session) -> Pool:
    """What stands for a session's database within this process: sessions to look and to write have it in common."""
    return engine_of(session).pool
