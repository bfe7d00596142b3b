"""Caches the frontier of each project and hardware class, and how often each axis was tried on a branch.

Reading 256 rows takes longer than drawing from them, and few of them change from one claim to the next. A claim sees
changes by this process at once, and those of other replicas a second later.
"""

from bisect import bisect
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from time import monotonic
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.db.cache import CachePerDatabase
from coordinator.evidence import service as evidence
from coordinator.selection import queries, step_queries
from coordinator.selection.parents import Candidate
from coordinator.selection.queries import FRONTIER_ROWS, FrontierRow, JobsUnderWay
from shared.experiments import JobKind, Standing

FRONTIER_MAX_AGE_SECONDS = 1.0
"""Age after which a cached frontier is read again."""

TRIES_MAX_AGE_SECONDS = 30.0
"""Age after which the tries on a branch are counted again, since an experiment may have moved to another branch."""

MAX_CHANGED = 64
"""Number of changed commits up to which only their rows are read again; beyond it, all rows are."""

MAX_KEPT = 256
"""Cached frontiers, and cached counts of tries, for each database; a frontier takes 100 kB."""

SETTLED = frozenset({Standing.VERIFIED, Standing.SINGLE_OWNER})


class Frontier(NamedTuple):
    """The best measured commits, best first, and each as a candidate with no job under way.

    `read_at` is when all rows were read, `seen_at` when changes were last applied.
    """

    rows: Sequence[FrontierRow]
    candidates: Sequence[Candidate]
    places: Mapping[str, int]
    read_at: float
    seen_at: float

    def view_candidates(self, in_flight: Sequence[JobsUnderWay]) -> list[Candidate]:
        """The candidates with the jobs under way on them."""
        candidates = list(self.candidates)
        for jobs in in_flight:
            at = self.places.get(jobs.base_sha)
            if at is not None:
                one = candidates[at]
                candidates[at] = (
                    one._replace(children_in_flight=one.children_in_flight + jobs.jobs)
                    if JobKind(jobs.kind).makes_experiment
                    else one._replace(measured_in_flight=one.measured_in_flight + jobs.jobs)
                )
        return candidates


_Key = tuple[int, str]
_frontiers = CachePerDatabase[_Key, Frontier](MAX_KEPT)


def read_frontier(session: Session, project_id: int, hardware_class: str) -> Frontier:
    """The best measured commits, at most `FRONTIER_ROWS`."""
    recent, key = _frontiers.for_database(session), (project_id, hardware_class)
    kept = recent.find(key)
    frontier = _bring_up_to_date(session, key, kept) if kept else _read(session, key)
    if frontier is kept or not frontier.rows:  # the first measurement counts at once, whichever process stores it
        return frontier
    return recent.store(key, frontier)


def _read(session: Session, key: _Key) -> Frontier:
    moment = monotonic()
    rows = queries.list_frontier(session, *key)
    places = {row.sha: at for at, row in enumerate(rows)}
    return Frontier(rows, [_view(row) for row in rows], places, moment, moment)


def _bring_up_to_date(session: Session, key: _Key, kept: Frontier) -> Frontier:
    moment = monotonic()
    if moment - kept.read_at > FRONTIER_MAX_AGE_SECONDS:
        return _read(session, key)
    changed = evidence.list_changed(session, kept.seen_at)
    if changed is None or len(changed) > MAX_CHANGED:
        return _read(session, key)
    if not changed:
        return kept
    return _change(kept, changed, queries.list_frontier_rows(session, *key, sorted(changed)), moment)


def _change(kept: Frontier, changed: Collection[str], present: Sequence[FrontierRow], moment: float) -> Frontier:
    """The frontier with the changed commits that belong to it now, and without those that no longer do."""
    rows, candidates = list(kept.rows), list(kept.candidates)
    for at in sorted((kept.places[sha] for sha in changed if sha in kept.places), reverse=True):
        del rows[at], candidates[at]
    for row in present:
        at = bisect(rows, row.order(), key=FrontierRow.order)
        rows.insert(at, row)
        candidates.insert(at, _view(row))
    del rows[FRONTIER_ROWS:], candidates[FRONTIER_ROWS:]
    places = {row.sha: at for at, row in enumerate(rows)}
    return Frontier(rows, candidates, places, kept.read_at, moment)


def _view(row: FrontierRow) -> Candidate:
    return Candidate(
        sha=row.sha,
        mean=row.rank_score,
        sd=row.metric_sd,
        runs=row.runs,
        children_in_flight=0,
        is_settled=row.standing in SETTLED,
        is_suspect=row.standing == Standing.SUSPECT,
        branch_id=row.branch_id,
    )


class _Tries(NamedTuple):
    counts: Counter[str]
    through_id: int
    read_at: float


_tries = CachePerDatabase[tuple[int, int, int], _Tries](MAX_KEPT)


def count_tries(session: Session, project_id: int, branch_id: int, after_id: int) -> list[tuple[str, int]]:
    """The axes of a branch's experiments after one of them, with how often each was tried."""
    recent, key = _tries.for_database(session), (project_id, branch_id, after_id)
    moment, known = monotonic(), recent.find(key)
    if known is None or moment - known.read_at > TRIES_MAX_AGE_SECONDS:
        known = _Tries(Counter(), after_id, moment)
    new = step_queries.list_tries(session, project_id, known.through_id)
    if new:
        counts = known.counts + Counter(axis for _, axis, of_branch in new if of_branch == branch_id)
        known = known._replace(counts=counts, through_id=new[0][0])
    recent.store(key, known)
    return list(known.counts.items())
