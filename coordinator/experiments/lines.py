"""What became of a line of commits, kept for a moment: many jobs start from the same few parents."""

from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.db.cache import RecentByDatabase
from coordinator.evidence import service as evidence
from coordinator.experiments import queries
from coordinator.experiments.queries import ToldExperiment

KEPT_FOR = 1.0
"""Seconds."""

MAX_KEPT = 256


class _Told(NamedTuple):
    line: Sequence[ToldExperiment]
    read_at: float


_told = RecentByDatabase[tuple[str, ...], _Told](MAX_KEPT)


def tell_line(session: Session, shas: Sequence[str]) -> Sequence[ToldExperiment]:
    """As `tell_commits`; what other replicas changed within the last second may be missing."""
    recent, key, moment = _told.of(session), tuple(shas), monotonic()
    known = recent.find(key)
    if known is not None and moment - known.read_at < KEPT_FOR:
        changed = evidence.list_changed(session, known.read_at)
        if changed is not None and changed.isdisjoint(key):
            return known.line
    return recent.keep(key, _Told(queries.tell_commits(session, shas), moment)).line
