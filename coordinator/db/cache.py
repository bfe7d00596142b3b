"""What was read lately, kept at hand: bounded, and safe to use from several threads."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Pool
from sqlalchemy.orm import Session

from coordinator.db.engine import pool_of

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The values that were last asked for, `limit` of them at most."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = Lock()

    def find(self, key: K) -> V | None:
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def keep(self, key: K, value: V) -> V:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._limit:
                self._values.popitem(last=False)
        return value


class RecentByDatabase(Generic[K, V]):
    """The same for each database that this process has open."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: WeakKeyDictionary[Pool, Recent[K, V]] = WeakKeyDictionary()
        self._lock = Lock()

    def of(self, session: Session) -> Recent[K, V]:
        """What is kept of a session's database."""
        with self._lock:
            return self._kept.setdefault(pool_of(session), Recent(self._limit))
