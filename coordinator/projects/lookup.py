"""Questions about projects. Their rows seldom change, so each is made an object once, which no session knows."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, select

from coordinator.db.engine import Conn
from coordinator.models import Project, table_of

_PROJECTS = table_of(Project)
_ALL = select(_PROJECTS).order_by(_PROJECTS.c.id)
_BY_NAME = select(_PROJECTS).where(_PROJECTS.c.name == bindparam("name"))


def find_project(session: Conn, name: str) -> Project | None:
    row = session.execute(_BY_NAME, {"name": name}).first()
    return _view(row) if row else None


def list_projects(session: Conn) -> Sequence[Project]:
    return [_view(row) for row in session.execute(_ALL, {}).all()]


@lru_cache(maxsize=256)
def _view(row: tuple[Any, ...]) -> Project:
    return Project(**dict(zip(_PROJECTS.c.keys(), row, strict=True)))
