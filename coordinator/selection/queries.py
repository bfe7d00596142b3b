"""The snapshot's rows: the frontier, what is in flight, and this worker's own history."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.models import CommitPosterior, Lease, Run
from shared.experiments import JobKind, Standing
from shared.leases import LeaseState
from shared.protocol import now
from shared.runs import RunOutcome

FRONTIER_ROWS = 512


class FrontierRow(NamedTuple):
    """A measured commit; `rank_score` is its metric's mean, turned so that lower is better."""

    sha: str
    rank_score: float
    metric_sd: float
    runs: int


def list_frontier(session: Session, project_id: int, hardware_class: str) -> list[FrontierRow]:
    """The best measured commits, at most 512."""
    rows = session.execute(
        select(CommitPosterior.commit_sha, CommitPosterior.rank_score, CommitPosterior.metric_sd, CommitPosterior.runs)
        .where(
            CommitPosterior.project_id == project_id,
            CommitPosterior.hardware_class == hardware_class,
            CommitPosterior.standing != Standing.HELD,
        )
        .order_by(CommitPosterior.rank_score, CommitPosterior.commit_sha)
        .limit(FRONTIER_ROWS)
    )
    return [FrontierRow(*row) for row in rows]


def count_children_in_flight(session: Session, project_id: int) -> dict[str, int]:
    """Live experiments by the commit they start from."""
    making = [kind for kind in JobKind if kind.makes_experiment]
    rows = session.execute(
        select(Lease.base_sha, func.count())
        .where(Lease.project_id == project_id, Lease.kind.in_(making), Lease.is_live_at(now()))
        .group_by(Lease.base_sha)
    )
    return dict(rows.all())


def count_runs_by_outcome(session: Session, worker_id: int, sha: str, hardware_class: str) -> dict[str, int]:
    """How this worker's runs of a commit ended."""
    rows = session.execute(
        select(Run.outcome, func.count())
        .where(Run.worker_id == worker_id, Run.commit_sha == sha, Run.hardware_class == hardware_class)
        .group_by(Run.outcome)
    )
    return {RunOutcome(outcome): count for outcome, count in rows}


def count_jobs_done(session: Session, worker_id: int, project_id: int) -> int:
    return (
        session.scalar(
            select(func.count()).where(
                Lease.worker_id == worker_id, Lease.project_id == project_id, Lease.state == LeaseState.DONE
            )
        )
        or 0
    )


def list_reserved_leases(session: Session, project_id: int) -> Sequence[Lease]:
    """Live leases whose proposal was accepted: what others run now."""
    return session.scalars(
        select(Lease)
        .where(Lease.project_id == project_id, Lease.proposed_tree_sha.is_not(None), Lease.is_live_at(now()))
        .order_by(Lease.issued_at)
        .limit(100)
    ).all()
