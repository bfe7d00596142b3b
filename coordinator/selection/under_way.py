"""Jobs under way, as a claim must know them.

In a large fleet they are counted once a second, since counting goes through all of them. Meanwhile this process adds
the jobs that it gives, so that no two claims choose the same measurement. Jobs that end, and those that other replicas
give, are seen a second late there.
"""

from collections import Counter
from copy import copy
from dataclasses import dataclass, field, replace
from time import monotonic

from coordinator.db.cache import CachePerDatabase
from coordinator.db.engine import Conn
from coordinator.selection import queries
from coordinator.selection.queries import JobsUnderWay
from shared.experiments import JobKind

LARGE_FLEET = 1_000
"""Number of jobs under way from which on they are not counted for each claim."""

KEPT_SECONDS, MAX_KEPT = 1.0, 256


@dataclass
class UnderWay:
    """Numbers of jobs: experiments by the commit that they start from and by branch, measurements by commit. The
    `replicated` commits are among those measured."""

    counted_at: float
    fleet: int = 0
    experiments: Counter[str] = field(default_factory=Counter)
    on_branches: Counter[int] = field(default_factory=Counter)
    measurements: Counter[str] = field(default_factory=Counter)
    replicated: set[str] = field(default_factory=set)

    def add(self, jobs: JobsUnderWay) -> None:
        """Count these jobs, too. Not for one that others may read."""
        kind = JobKind(jobs.kind)
        self.fleet += jobs.jobs
        if kind == JobKind.REPLICATE:
            self.replicated.add(jobs.base_sha)
        if kind.is_measurement:
            self.measurements[jobs.base_sha] += jobs.jobs
        if kind.makes_experiment:
            self.experiments[jobs.base_sha] += jobs.jobs
            self.on_branches[jobs.branch_id] += jobs.jobs


_kept = CachePerDatabase[int, UnderWay](MAX_KEPT)


def read_under_way(session: Conn, project_id: int) -> UnderWay:
    """A project's jobs under way."""
    cache = _kept.for_database(session)
    known = cache.find(project_id)
    if known is None or known.fleet < LARGE_FLEET or monotonic() - known.counted_at >= KEPT_SECONDS:
        known = UnderWay(monotonic())
        for jobs in queries.count_in_flight(session, project_id):
            known.add(jobs)
        cache.store(project_id, known)
    return known


def add_job(session: Conn, project_id: int, base_sha: str, kind: JobKind, branch_id: int) -> None:
    """Count a job that was just given."""
    cache = _kept.for_database(session)
    if (known := cache.find(project_id)) is not None and known.fleet >= LARGE_FLEET:
        more = replace(
            known, experiments=copy(known.experiments), on_branches=copy(known.on_branches),
            measurements=copy(known.measurements), replicated=copy(known.replicated),
        )  # fmt: skip
        more.add(JobsUnderWay(base_sha, kind, branch_id, 1))
        cache.store(project_id, more)
