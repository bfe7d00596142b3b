"""Questions about runs and posteriors."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, undefer_group

from coordinator.models import CommitPosterior, Run, Worker
from coordinator.models.evidence import REPORT
from shared.runs import RunOutcome

RunRow = tuple[Run, str]
"""A run and its worker's name."""


def _rows() -> Select[*tuple[Any, ...]]:
    query = select(Run, Worker.name).join(Worker, Worker.id == Run.worker_id)
    return query.options(undefer_group(REPORT))


def list_measured_values(session: Session, sha: str, hardware_class: str) -> list[float]:
    """Metrics of all runs of a commit that count as measurements."""
    query = select(Run.metric).where(
        Run.commit_sha == sha, Run.hardware_class == hardware_class, Run.outcome == RunOutcome.OK
    )
    return [metric for metric in session.scalars(query.order_by(Run.id)) if metric is not None]


def find_posterior(session: Session, sha: str, hardware_class: str) -> CommitPosterior | None:
    return session.get(CommitPosterior, (sha, hardware_class))


def list_posteriors(session: Session, shas: Sequence[str], hardware_class: str) -> Sequence[CommitPosterior]:
    return session.scalars(
        select(CommitPosterior).where(
            CommitPosterior.commit_sha.in_(shas), CommitPosterior.hardware_class == hardware_class
        )
    ).all()


def find_run_by_uuid(session: Session, uuid: UUID) -> Run | None:
    return session.scalar(select(Run).where(Run.uuid == uuid))


def list_runs_of_commit(session: Session, sha: str) -> list[RunRow]:
    rows = session.execute(_rows().where(Run.commit_sha == sha).order_by(Run.id))
    return [(run, name) for run, name in rows]


def list_runs(session: Session, project_id: int, before_id: int | None, limit: int) -> list[RunRow]:
    """Runs of a project, newest first, older than `before_id`."""
    query = _rows().where(Run.project_id == project_id)
    if before_id is not None:
        query = query.where(Run.id < before_id)
    return [(run, name) for run, name in session.execute(query.order_by(Run.id.desc()).limit(limit))]


def find_run(session: Session, run_id: int) -> RunRow | None:
    row = session.execute(_rows().where(Run.id == run_id)).one_or_none()
    return (row[0], row[1]) if row else None
