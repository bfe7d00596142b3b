"""Questions about runs and posteriors."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, bindparam, insert, select
from sqlalchemy.orm import Session, undefer_group

from coordinator.models import CommitPosterior, Run, Worker, table_of
from coordinator.models.evidence import REPORT
from shared.runs import RunOutcome

RunRow = tuple[Run, str]
"""A run and its worker's name."""


_RUNS = table_of(Run)
_ADD_RUN = insert(_RUNS).returning(_RUNS.c.id)
_MEASURED_VALUES = (
    select(_RUNS.c.metric)
    .where(
        _RUNS.c.commit_sha == bindparam("sha"),
        _RUNS.c.hardware_class == bindparam("hardware_class"),
        _RUNS.c.outcome == RunOutcome.OK,
        _RUNS.c.metric.is_not(None),
    )
    .order_by(_RUNS.c.id)
)
_POSTERIOR = select(CommitPosterior).where(
    CommitPosterior.commit_sha == bindparam("sha"), CommitPosterior.hardware_class == bindparam("hardware_class")
)
_RUN_ID_BY_UUID = select(_RUNS.c.id).where(_RUNS.c.uuid == bindparam("uuid"))


def _rows() -> Select[*tuple[Any, ...]]:
    query = select(Run, Worker.name).join(Worker, Worker.id == Run.worker_id)
    return query.options(undefer_group(REPORT))


def add_run(session: Session, columns: Mapping[str, Any]) -> int:
    """Add a row; returns its id."""
    return int(session.execute(_ADD_RUN, columns).scalar_one())


def list_measured_values(session: Session, sha: str, hardware_class: str) -> list[float]:
    """Metrics of all runs of a commit that count as measurements."""
    return list(session.scalars(_MEASURED_VALUES, {"sha": sha, "hardware_class": hardware_class}))


def find_posterior(session: Session, sha: str, hardware_class: str) -> CommitPosterior | None:
    return session.scalar(_POSTERIOR, {"sha": sha, "hardware_class": hardware_class})


def list_posteriors(session: Session, shas: Sequence[str], hardware_class: str) -> Sequence[CommitPosterior]:
    return session.scalars(
        select(CommitPosterior).where(
            CommitPosterior.commit_sha.in_(shas), CommitPosterior.hardware_class == hardware_class
        )
    ).all()


def has_run(session: Session, uuid: UUID) -> bool:
    return session.scalar(_RUN_ID_BY_UUID, {"uuid": uuid}) is not None


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
