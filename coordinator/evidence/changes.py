"""Commits whose posteriors this process changed lately, so that caches of them are read again."""

from collections import deque
from collections.abc import Iterable
from threading import Lock
from time import monotonic
from weakref import WeakKeyDictionary

from sqlalchemy import Pool

from coordinator.db.engine import Conn, pool_of

LOOK_BACK = 0.25
"""Maximum seconds between the record of a change and the commit of its transaction."""

MAX_CHANGES = 1_024
"""Maximum number of changes recorded for each database."""

_changes: WeakKeyDictionary[Pool, deque[tuple[float, str]]] = WeakKeyDictionary()
_lock = Lock()


def record_changed(session: Conn, shas: Iterable[str]) -> None:
    moment = monotonic()
    with _lock:
        _changes.setdefault(pool_of(session), deque(maxlen=MAX_CHANGES)).extend((moment, sha) for sha in shas)


def list_changed(session: Conn, since: float) -> set[str] | None:
    """The commits changed since a moment of `time.monotonic()`; None where they may be more than are recorded."""
    with _lock:
        recorded = list(_changes.get(pool_of(session), ()))
    found = set[str]()
    for moment, sha in reversed(recorded):
        if moment < since - LOOK_BACK:
            return found
        found.add(sha)
    return None if len(recorded) == MAX_CHANGES else found
