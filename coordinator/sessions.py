"""Sessions that cost little to begin."""

from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session


class LazySession(Session):
    """A session whose connection and transaction are begun at its first statement, by itself.

    SQLAlchemy's own way to begin takes three times as long, and every request does it once or twice.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._opened: Connection | None = None

    def get_bind(self, *_about: Any, **_more: Any) -> Connection:
        """The connection that statements run on, within a transaction. Called by SQLAlchemy."""
        if self._opened is None:
            self._opened = self._engine.connect()
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
        super().close()
        if self._opened is not None:
            self._opened.close()
            self._opened = None
