"""Commits whose posteriors this process changed a moment ago: what it keeps at hand of them is to be read again.

They are noted before their transaction is committed, so who reads them looks back a little further than to its own
last time. Other replicas' changes are not known here.
"""

from collections import deque
from collections.abc import Iterable
from threading import Lock
from time import monotonic
from weakref import WeakKeyDictionary

from sqlalchemy import Pool
from sqlalchemy.orm import Session

from coordinator.db.engine import pool_of

LOOK_BACK = 0.25
"""Seconds. A change is noted so long, at most, before its transaction is committed and others see it."""

NOTED = 1_024
"""The most changes that are remembered for each database."""

_changes: WeakKeyDictionary[Pool, deque[tuple[float, str]]] = WeakKeyDictionary()
_lock = Lock()


def record_changed(session: Session, shas: Iterable[str]) -> None:
    """Note that what is known of commits has changed."""
    moment = monotonic()
    with _lock:
        _changes.setdefault(pool_of(session), deque(maxlen=NOTED)).extend((moment, sha) for sha in shas)


def list_changed(session: Session, since: float) -> set[str] | None:
    """The commits whose changes others may not have seen at a moment of `time.monotonic()`; None where they are too
    many to tell."""
    with _lock:
        noted = list(_changes.get(pool_of(session), ()))
    found = set[str]()
    for moment, sha in reversed(noted):
        if moment < since - LOOK_BACK:
            return found
        found.add(sha)
    return None if len(noted) == NOTED else found
