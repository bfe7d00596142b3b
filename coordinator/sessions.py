"""Sessions that cost little to begin."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import PoolProxiedConnection

Begin = Callable[[PoolProxiedConnection], None]
"""Begins a transaction on the driver's connection."""

BEGUN = "swarm_begun"
"""Mark on a connection whose transaction was begun on the driver's connection before SQLAlchemy heard of it."""


class LazySession(Session):
    """A session whose connection and transaction are begun at its first statement, by itself.

    SQLAlchemy's own way to begin takes three times as long, and every request does it once or twice. With `begin` not
    even SQLAlchemy's `Connection` is made before something asks for it: prepared statements need the driver's only.
    """

    def __init__(self, engine: Engine, begin: Begin | None = None) -> None:
        super().__init__()
        self._engine = engine
        self._begin = begin
        self._pooled: PoolProxiedConnection | None = None
        self._opened: Connection | None = None

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def driver(self) -> Any:
        """The driver's connection, within the session's transaction."""
        if self._begin is None:
            return self.get_bind().connection.driver_connection
        return self._take(self._begin).driver_connection

    def get_bind(self, *_about: Any, **_more: Any) -> Connection:
        """The connection that statements run on, within a transaction. Called by SQLAlchemy."""
        if self._opened is None:
            if self._begin is None:
                self._opened = self._engine.connect()
            else:
                pooled = self._take(self._begin)
                self._opened = Connection(self._engine, connection=pooled)
                pooled.info[BEGUN] = True
            self._opened.begin()
        return self._opened

    def _take(self, begin: Begin) -> PoolProxiedConnection:
        if self._pooled is None:
            pooled = self._connect()
            try:
                begin(pooled)
            except BaseException:
                pooled.close()
                raise
            self._pooled = pooled
        return self._pooled

    def _connect(self) -> PoolProxiedConnection:
        base = self._engine.dialect.loaded_dbapi.Error
        try:
            return self._engine.raw_connection()
        except base as error:
            raise DBAPIError.instance("CONNECT", None, error, base, dialect=self._engine.dialect) from error

    def end(self) -> None:
        """Commit, if there was any statement. A connection that could not is thrown away, with its transaction."""
        used = self._opened or self._pooled
        if used is None:
            return
        is_committed = False
        try:
            self._commit()
            is_committed = True
        finally:
            if not is_committed:
                used.invalidate()

    def _commit(self) -> None:
        if self._opened is not None:
            self._opened.commit()
            return
        assert self._pooled is not None
        base = self._engine.dialect.loaded_dbapi.Error
        try:
            self._engine.dialect.do_commit(self._pooled)
        except base as error:
            raise DBAPIError.instance("COMMIT", None, error, base, dialect=self._engine.dialect) from error

    def close(self) -> None:
        """Let go of the connection. What was not committed is rolled back."""
        if self.in_transaction():  # else it was never asked for anything
            super().close()
        used = self._opened or self._pooled
        if used is not None:
            used.close()
            self._opened = self._pooled = None


def engine_of(session: Session) -> Engine:
    """A session's engine, without a connection."""
    return session.engine if isinstance(session, LazySession) else session.get_bind().engine
