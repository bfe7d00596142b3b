"""Which axes were tried on a branch, and how often: counted once, and then only what came since is added."""

from collections import Counter
from time import monotonic
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.db.cache import RecentByDatabase
from coordinator.selection import step_queries

KEPT_FOR = 30.0
"""Seconds. Then all is counted anew, for an experiment may have moved to another branch."""

MAX_KEPT = 256


class _Tries(NamedTuple):
    counts: Counter[str]
    through_id: int
    read_at: float


_Key = tuple[int, int, int]
_tries = RecentByDatabase[_Key, _Tries](MAX_KEPT)


def count_tries(session: Session, project_id: int, branch_id: int, after_id: int) -> list[tuple[str, int]]:
    """The axes of a branch's experiments after one of them, with how often each was tried."""
    recent, key = _tries.of(session), (project_id, branch_id, after_id)
    moment, known = monotonic(), recent.find(key)
    if known is None or moment - known.read_at > KEPT_FOR:
        known = _Tries(Counter(), after_id, moment)
    new = step_queries.list_tries(session, project_id, known.through_id)
    if new:
        counts = known.counts + Counter(axis for _, axis, of_branch in new if of_branch == branch_id)
        known = known._replace(counts=counts, through_id=new[0][0])
    recent.keep(key, known)
    return list(known.counts.items())
