"""The frontier of a project and hardware class, kept in this process for a moment.

To read 256 rows takes longer than to draw from them, and from one claim to the next hardly any of them changes. What
this process changes is seen at once, and what other replicas change a second later.
"""

from bisect import bisect
from collections.abc import Collection, Mapping, Sequence
from time import monotonic
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.db.cache import RecentByDatabase
from coordinator.evidence import service as evidence
from coordinator.selection import queries
from coordinator.selection.parents import Candidate
from coordinator.selection.queries import FRONTIER_ROWS, FrontierRow, JobsUnderWay
from shared.experiments import JobKind, Standing

KEPT_FOR = 1.0
"""Seconds."""

FEW = 64
"""To read so many rows by their names costs less than to read them all."""

MAX_KEPT = 256
"""Frontiers of one database; 100 kB each."""

SETTLED = frozenset({Standing.VERIFIED, Standing.SINGLE_OWNER})


class Frontier(NamedTuple):
    """The best measured commits, the best first, and each as a candidate with no job under way.

    It was read as a whole at `read_at`, and looked through for changes at `seen_at`.
    """

    rows: Sequence[FrontierRow]
    candidates: Sequence[Candidate]
    places: Mapping[str, int]
    read_at: float
    seen_at: float

    def view_candidates(self, in_flight: Sequence[JobsUnderWay]) -> list[Candidate]:
        """The candidates with what is under way on them."""
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
_frontiers = RecentByDatabase[_Key, Frontier](MAX_KEPT)


def read_frontier(session: Session, project_id: int, hardware_class: str) -> Frontier:
    """The best measured commits, at most `FRONTIER_ROWS`."""
    recent, key = _frontiers.of(session), (project_id, hardware_class)
    kept = recent.find(key)
    frontier = _bring_up_to_date(session, key, kept) if kept else _read(session, key)
    return frontier if frontier is kept else recent.keep(key, frontier)


def _read(session: Session, key: _Key) -> Frontier:
    moment = monotonic()
    rows = queries.list_frontier(session, *key)
    places = {row.sha: at for at, row in enumerate(rows)}
    return Frontier(rows, [_view(row) for row in rows], places, moment, moment)


def _bring_up_to_date(session: Session, key: _Key, kept: Frontier) -> Frontier:
    moment = monotonic()
    if moment - kept.read_at > KEPT_FOR:
        return _read(session, key)
    changed = evidence.list_changed(session, kept.seen_at)
    if changed is None or len(changed) > FEW:
        return _read(session, key)
    if not changed:
        return kept
    return _change(kept, changed, queries.list_frontier_rows(session, *key, sorted(changed)), moment)


def _change(kept: Frontier, changed: Collection[str], present: Sequence[FrontierRow], moment: float) -> Frontier:
    """The frontier with those of the changed commits that are present now, and without those that are not."""
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
