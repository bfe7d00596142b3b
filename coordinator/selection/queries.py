"""The snapshot's rows: the frontier, what is in flight, and this worker's own history."""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from coordinator.models import CommitPosterior, Lease, Run, table_of
from coordinator.models.leases import LIVE_STATES
from shared.experiments import JobKind, Standing
from shared.leases import LeaseState
from shared.protocol import now
from shared.runs import RunOutcome

FRONTIER_ROWS = 512
MAX_RUNNING = 100


class FrontierRow(NamedTuple):
    """A measured commit; `rank_score` is its metric's mean, turned so that lower is better."""

    sha: str
    rank_score: float
    metric_sd: float
    runs: int


class RunningJob(NamedTuple):
    """A live lease whose proposal was accepted. `proposal` is a `shared.experiments.Proposal` as JSON."""

    base_sha: str
    proposal: dict[str, Any]
    tree_sha: str


_LEASES, _POSTERIORS, _RUNS = table_of(Lease), table_of(CommitPosterior), table_of(Run)


_FRONTIER = (
    select(_POSTERIORS.c.commit_sha, _POSTERIORS.c.rank_score, _POSTERIORS.c.metric_sd, _POSTERIORS.c.runs)
    .where(
        _POSTERIORS.c.project_id == bindparam("project_id"),
        _POSTERIORS.c.hardware_class == bindparam("hardware_class"),
        _POSTERIORS.c.standing == bindparam("standing"),
    )
    .order_by(_POSTERIORS.c.rank_score)
    .limit(FRONTIER_ROWS)
)
_IS_LIVE = _LEASES.c.state.in_(LIVE_STATES) & (_LEASES.c.expires_at > bindparam("moment"))
_CHILDREN_IN_FLIGHT = (
    select(_LEASES.c.base_sha, func.count())
    .where(
        _LEASES.c.project_id == bindparam("project_id"),
        _LEASES.c.kind.in_([kind for kind in JobKind if kind.makes_experiment]),
        _IS_LIVE,
    )
    .group_by(_LEASES.c.base_sha)
)
_RUNS_BY_OUTCOME = (
    select(_RUNS.c.outcome, func.count())
    .where(
        _RUNS.c.worker_id == bindparam("worker_id"),
        _RUNS.c.commit_sha == bindparam("sha"),
        _RUNS.c.hardware_class == bindparam("hardware_class"),
    )
    .group_by(_RUNS.c.outcome)
)
_JOBS_DONE = select(func.count()).where(
    _LEASES.c.worker_id == bindparam("worker_id"),
    _LEASES.c.project_id == bindparam("project_id"),
    _LEASES.c.state == LeaseState.DONE,
)
_RUNNING = (
    select(_LEASES.c.base_sha, _LEASES.c.proposal, _LEASES.c.proposed_tree_sha)
    .where(_LEASES.c.project_id == bindparam("project_id"), _LEASES.c.proposed_tree_sha.is_not(None), _IS_LIVE)
    .order_by(_LEASES.c.issued_at)
    .limit(MAX_RUNNING)
)


def list_frontier(session: Session, project_id: int, hardware_class: str) -> list[FrontierRow]:
    """The best measured commits, at most 512.

    Each standing is asked for by itself, because then an index gives the order; one query for all would sort every row.
    """
    rows = []
    for standing in Standing:
        if standing is not Standing.HELD:
            given = {"project_id": project_id, "hardware_class": hardware_class, "standing": standing}
            rows += [FrontierRow(*row) for row in session.execute(_FRONTIER, given).all()]
    return sorted(rows, key=lambda row: (row.rank_score, row.sha))[:FRONTIER_ROWS]


def count_children_in_flight(session: Session, project_id: int) -> dict[str, int]:
    """Live experiments by the commit they start from."""
    rows = session.execute(_CHILDREN_IN_FLIGHT, {"project_id": project_id, "moment": now()})
    return dict(rows.all())


def count_runs_by_outcome(session: Session, worker_id: int, sha: str, hardware_class: str) -> dict[str, int]:
    """How this worker's runs of a commit ended."""
    given = {"worker_id": worker_id, "sha": sha, "hardware_class": hardware_class}
    return {RunOutcome(outcome): count for outcome, count in session.execute(_RUNS_BY_OUTCOME, given)}


def count_jobs_done(session: Session, worker_id: int, project_id: int) -> int:
    return session.scalar(_JOBS_DONE, {"worker_id": worker_id, "project_id": project_id}) or 0


def list_running_jobs(session: Session, project_id: int) -> list[RunningJob]:
    """What others run now, the oldest job first, at most 100."""
    rows = session.execute(_RUNNING, {"project_id": project_id, "moment": now()})
    return [RunningJob(*row) for row in rows]
