"""Questions about imported sessions."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.models import Experiment, Finding, ImportedLine, ImportedSession, Run

UNKNOWN_AUTHOR = "unknown author"
NO_PEOPLE = (UNKNOWN_AUTHOR, "root")


def find_session(session: Session, project_id: int) -> ImportedSession | None:
    return session.get(ImportedSession, project_id)


def list_lines(session: Session, project_id: int) -> Sequence[bytes]:
    """The session's lines as they were, in their order; one agent's work, so they are few."""
    query = select(ImportedLine.content).where(ImportedLine.project_id == project_id).order_by(ImportedLine.line)
    return session.scalars(query).all()


def map_commits(session: Session, project_id: int) -> dict[int, str]:
    """The commit that each line measured; lines that could not be read, and empty ones, have none."""
    query = select(ImportedLine.line, Run.commit_sha).join(Run, Run.id == ImportedLine.run_id)
    rows = session.execute(query.where(ImportedLine.project_id == project_id))
    return {row.line: row.commit_sha for row in rows}


def find_last_run(session: Session, project_id: int) -> int:
    """The newest run that came of a line; 0 without one."""
    query = select(ImportedLine.run_id).where(ImportedLine.project_id == project_id, ImportedLine.run_id.is_not(None))
    return session.scalar(query.order_by(ImportedLine.run_id.desc()).limit(1)) or 0


def list_authors(session: Session) -> Sequence[str]:
    """Names of those who wrote the commits of imported sessions, who made most first."""
    query = (
        select(Finding.agent)
        .join(Experiment, Experiment.id == Finding.experiment_id)
        .join(ImportedSession, ImportedSession.worker_id == Experiment.worker_id)
        .where(Finding.agent.not_in(NO_PEOPLE))
        .group_by(Finding.agent)
        .order_by(func.count().desc(), Finding.agent)
    )
    return session.scalars(query).all()
