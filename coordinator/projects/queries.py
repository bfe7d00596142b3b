"""Questions about projects."""

from collections.abc import Sequence

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from coordinator.models import Project

_ALL = select(Project).order_by(Project.id)
_BY_NAME = select(Project).where(Project.name == bindparam("name"))


def find_project(session: Session, name: str) -> Project | None:
    return session.scalar(_BY_NAME, {"name": name})


def list_projects(session: Session) -> Sequence[Project]:
    return session.scalars(_ALL).all()
