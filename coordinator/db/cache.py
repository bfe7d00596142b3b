"""The one kind of cache for stored values: bounded, safe to use from several threads.

Values are either immutable (named by a sha or an id), or carry the moment they were read, so that their reader decides
when to read again. So several processes on one database need not tell each other anything.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Pool

from coordinator.db.engine import Conn, pool_of

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Keeps the values that were asked for last, as long as they weigh no more than `limit` in all: each weighs 1, or
    what `weigh` says."""

    def __init__(self, limit: int, weigh: Callable[[V], int] = lambda _: 1) -> None:
        self._limit, self._weigh, self._weight = limit, weigh, 0
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = Lock()

    def find(self, key: K) -> V | None:
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def store(self, key: K, value: V) -> V:
        with self._lock:
            if (before := self._values.pop(key, None)) is not None:
                self._weight -= self._weigh(before)
            self._values[key] = value
            self._weight += self._weigh(value)
            while self._weight > self._limit:
                self._weight -= self._weigh(self._values.popitem(last=False)[1])
        return value

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
            self._weight = 0


class CachePerDatabase(Generic[K, V]):
    """One cache for each database that this process has open."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: WeakKeyDictionary[Pool, Cache[K, V]] = WeakKeyDictionary()
        self._lock = Lock()

    def for_database(self, session: Conn) -> Cache[K, V]:
        """The cache of a session's database."""
        with self._lock:
            return self._kept.setdefault(pool_of(session), Cache(self._limit))


class TimedCache(Generic[K, V]):
    """Values of each database that may be some seconds old."""

    def __init__(self, limit: int) -> None:
        self._kept = CachePerDatabase[K, tuple[V, float]](limit)

    def read(self, session: Conn, key: K, seconds: float, make: Callable[[], V]) -> V:
        """The value that was made for a key less than so many seconds ago, or one that is made now."""
        cache = self._kept.for_database(session)
        known = cache.find(key)
        if known is None or monotonic() - known[1] >= seconds:
            known = cache.store(key, (make(), monotonic()))
        return known[0]

    def clear(self, session: Conn) -> None:
        self._kept.for_database(session).clear()
