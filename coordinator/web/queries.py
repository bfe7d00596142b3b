"""Queries of the pages alone."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.models import CommitPosterior, Experiment
from shared.experiments import Standing


def find_leader(session: Session, project_id: int, hardware_class: str) -> CommitPosterior | None:
    """The commit with the best posterior mean in a hardware class; held commits excepted."""
    return session.scalar(
        select(CommitPosterior)
        .where(
            CommitPosterior.project_id == project_id,
            CommitPosterior.hardware_class == hardware_class,
            CommitPosterior.standing != Standing.HELD,
        )
        .order_by(CommitPosterior.rank_score, CommitPosterior.commit_sha)
        .limit(1)
    )


def list_experiment_ids(session: Session, shas: Sequence[str]) -> dict[str, int]:
    """Experiments by the commit they made."""
    rows = session.execute(select(Experiment.commit_sha, Experiment.id).where(Experiment.commit_sha.in_(shas)))
    return {row.commit_sha: row.id for row in rows}


def get_lease_id(session: Session, experiment_id: int) -> UUID:
    """The lease that an experiment was made under."""
    return session.scalars(select(Experiment.lease_id).where(Experiment.id == experiment_id)).one()
