"""What became of a line of commits, kept for a moment: many jobs start from the same few parents."""

from collections.abc import Sequence
from threading import Lock
from time import monotonic
from typing import NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Pool
from sqlalchemy.orm import Session

from coordinator.evidence import service as evidence
from coordinator.experiments import queries
from coordinator.experiments.queries import ToldExperiment
from coordinator.recently import Recent

KEPT_FOR, LOOK_BACK = 1.0, 0.25
"""Seconds, as of the frontier (`selection/frontier.py`)."""

MAX_KEPT = 256


class _Told(NamedTuple):
    line: Sequence[ToldExperiment]
    read_at: float


_told: WeakKeyDictionary[Pool, Recent[tuple[str, ...], _Told]] = WeakKeyDictionary()
_lock = Lock()


def tell_line(session: Session, shas: Sequence[str]) -> Sequence[ToldExperiment]:
    """As `tell_commits`; what other replicas changed within the last second may be missing."""
    with _lock:
        recent = _told.setdefault(evidence.pool_of(session), Recent(MAX_KEPT))
    key, moment = tuple(shas), monotonic()
    known = recent.find(key)
    if known is not None and moment - known.read_at < KEPT_FOR:
        changed = evidence.list_changed(session, known.read_at - LOOK_BACK)
        if changed is not None and changed.isdisjoint(key):
            return known.line
    return recent.keep(key, _Told(queries.tell_commits(session, shas), moment)).line
