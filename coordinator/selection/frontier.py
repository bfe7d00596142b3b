"""Caches the frontier of each project and hardware class, and how often each axis was tried on a branch.

A claim sees changes by this process at once, and those of other replicas a second later.
"""

from bisect import insort
from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf
from time import monotonic
from typing import NamedTuple

from coordinator.db.cache import CachePerDatabase
from coordinator.db.engine import Conn
from coordinator.evidence.changes import list_changed
from coordinator.selection import queries, step_queries
from coordinator.selection.parents import Candidate
from coordinator.selection.queries import FRONTIER_ROWS
from coordinator.selection.under_way import UnderWay

FRONTIER_MAX_AGE_SECONDS = 1.0  # after which a cached frontier is read again
TRIES_SEEN_SECONDS = 1.0  # for which new experiments are not looked for
TRIES_MAX_AGE_SECONDS = 30.0  # after which tries are counted again, since experiments may move to other branches
MAX_CHANGED = 64  # commits up to which only changed rows are read again
MAX_KEPT = 256  # cached frontiers, and cached counts of tries, for each database; a frontier takes 100 kB


class Frontier(NamedTuple):
    """The best measured commits, best first, without the jobs under way on them; `places` are their positions by sha.
    `read_at` is when all rows were read, `seen_at` when changes were last applied."""

    candidates: Sequence[Candidate]
    places: Mapping[str, int]
    read_at: float
    seen_at: float

    def view_candidates(self, under_way: UnderWay) -> list[Candidate]:
        """The candidates with the jobs under way on them."""
        candidates = list(self.candidates)
        for sha, at in self.places.items():  # in a large fleet jobs are under way on many more commits
            children, own = under_way.experiments[sha], under_way.measurements[sha]
            if children or own:
                candidates[at] = candidates[at]._replace(children_in_flight=children, measured_in_flight=own)
        return candidates


_Key = tuple[int, str]
_frontiers = CachePerDatabase[_Key, Frontier](MAX_KEPT)


def read_frontier(session: Conn, project_id: int, hardware_class: str) -> Frontier:
    """The best measured commits, at most `FRONTIER_ROWS`."""
    recent, key = _frontiers.for_database(session), (project_id, hardware_class)
    kept, moment = recent.find(key), monotonic()
    changed = None
    if kept is not None and moment - kept.read_at <= FRONTIER_MAX_AGE_SECONDS:
        changed = list_changed(session, kept.seen_at)
    if kept is None or changed is None or len(changed) > MAX_CHANGED:
        read_at, candidates = moment, queries.list_frontier(session, *key)
    elif not changed:
        return kept
    else:
        read_at, candidates = kept.read_at, [one for one in kept.candidates if one.sha not in changed]
        for one in queries.list_candidates(session, *key, sorted(changed)):
            insort(candidates, one, key=queries.order_frontier)
        del candidates[FRONTIER_ROWS:]
    frontier = Frontier(candidates, {one.sha: at for at, one in enumerate(candidates)}, read_at, moment)
    if not candidates:  # the first measurement counts at once, whichever process stores it
        return frontier
    return recent.store(key, frontier)


class _Tries(NamedTuple):
    counts: Counter[str]
    through_id: int
    read_at: float
    seen_at: float


_tries = CachePerDatabase[tuple[int, int, int], _Tries](MAX_KEPT)


def count_tries(session: Conn, project_id: int, branch_id: int, after_id: int) -> list[tuple[str, int]]:
    """The axes of a branch's experiments after one of them, with how often each was tried up to a second ago."""
    recent, key = _tries.for_database(session), (project_id, branch_id, after_id)
    moment, known = monotonic(), recent.find(key)
    if known is None or moment - known.read_at > TRIES_MAX_AGE_SECONDS:
        known = _Tries(Counter(), after_id, moment, seen_at=-inf)
    if moment - known.seen_at < TRIES_SEEN_SECONDS:
        return list(known.counts.items())
    new = step_queries.list_tries(session, project_id, known.through_id)
    if new:
        counts = known.counts + Counter(axis for _, axis, of_branch in new if of_branch == branch_id)
        known = known._replace(counts=counts, through_id=new[0][0])
    recent.store(key, known._replace(seen_at=moment))
    return list(known.counts.items())
