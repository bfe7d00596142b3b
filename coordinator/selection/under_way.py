"""Jobs under way, as a claim must know them.

In a large fleet they are counted once a second, since counting goes through all of them. Meanwhile this process adds
the jobs that it gives, so that no two claims choose the same measurement. Jobs that end, and those that other replicas
give, are seen a second late there.
"""

from collections import Counter
from collections.abc import Mapping, Set
from time import monotonic
from typing import NamedTuple, TypeVar

from coordinator.db.cache import CachePerDatabase
from coordinator.db.engine import Conn
from coordinator.selection import queries
from coordinator.selection.queries import JobsUnderWay
from shared.experiments import JobKind

K = TypeVar("K", int, str)

LARGE_FLEET = 1_000
"""Number of jobs under way from which on they are not counted for each claim."""

KEPT_SECONDS, MAX_KEPT = 1.0, 256


class UnderWay(NamedTuple):
    """Numbers of jobs: experiments by the commit that they start from and by branch, measurements by commit. The
    `replicated` commits are among those measured."""

    experiments: Mapping[str, int]
    on_branches: Mapping[int, int]
    measurements: Mapping[str, int]
    replicated: Set[str]
    fleet: int
    counted_at: float

    def join(self, jobs: JobsUnderWay) -> "UnderWay":
        """With these jobs, too. Others may read what is as it was."""
        kind, known = JobKind(jobs.kind), self._replace(fleet=self.fleet + jobs.jobs)
        if kind is JobKind.REPLICATE:
            known = known._replace(replicated=known.replicated | {jobs.base_sha})
        if kind.is_measurement:
            known = known._replace(measurements=_add(known.measurements, jobs.base_sha, jobs.jobs))
        if kind.makes_experiment:
            on_branches = _add(known.on_branches, jobs.branch_id, jobs.jobs)
            experiments = _add(known.experiments, jobs.base_sha, jobs.jobs)
            known = known._replace(experiments=experiments, on_branches=on_branches)
        return known


def _add(counts: Mapping[K, int], key: K, jobs: int) -> dict[K, int]:
    return {**counts, key: counts.get(key, 0) + jobs}


_kept = CachePerDatabase[int, UnderWay](MAX_KEPT)


def read_under_way(session: Conn, project_id: int) -> UnderWay:
    """A project's jobs under way."""
    cache = _kept.for_database(session)
    known = cache.find(project_id)
    if known is None or known.fleet < LARGE_FLEET or monotonic() - known.counted_at >= KEPT_SECONDS:
        known = cache.store(project_id, _count(session, project_id))
    return known


def add_job(session: Conn, project_id: int, base_sha: str, kind: JobKind, branch_id: int) -> None:
    """Count a job that was just given."""
    cache = _kept.for_database(session)
    if (known := cache.find(project_id)) is not None and known.fleet >= LARGE_FLEET:
        cache.store(project_id, known.join(JobsUnderWay(base_sha, kind, branch_id, 1)))


def _count(session: Conn, project_id: int) -> UnderWay:
    counted_at, fleet, replicated = monotonic(), 0, set[str]()
    experiments, on_branches, measurements = Counter[str](), Counter[int](), Counter[str]()
    for sha, name, branch_id, jobs in queries.count_in_flight(session, project_id):
        kind = JobKind(name)
        fleet += jobs
        if kind is JobKind.REPLICATE:
            replicated.add(sha)
        if kind.is_measurement:
            measurements[sha] += jobs
        if kind.makes_experiment:
            experiments[sha] += jobs
            on_branches[branch_id] += jobs
    return UnderWay(experiments, on_branches, measurements, replicated, fleet, counted_at)
