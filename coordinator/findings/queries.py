"""Questions about findings."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from coordinator.models import Experiment, Finding, table_of
from coordinator.statements import Prepared

_ADD = Prepared(insert(table_of(Finding)))


def add_finding(session: Session, columns: Mapping[str, Any]) -> None:
    _ADD.run(session, columns)


def find_finding_of_experiment(session: Session, experiment_id: int) -> Finding | None:
    return session.scalar(select(Finding).where(Finding.experiment_id == experiment_id))


def list_findings(session: Session, project_id: int, before_id: int | None, limit: int) -> Sequence[Finding]:
    """Findings of a project, newest first, older than `before_id`."""
    query = (
        select(Finding)
        .join(Experiment, Experiment.id == Finding.experiment_id)
        .where(Experiment.project_id == project_id)
    )
    if before_id is not None:
        query = query.where(Finding.id < before_id)
    return session.scalars(query.order_by(Finding.id.desc()).limit(limit)).all()


def find_finding(session: Session, finding_id: int) -> Finding | None:
    return session.get(Finding, finding_id)
