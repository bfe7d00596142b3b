"""Exports as streams. Each batch is read in a transaction of its own, up to the row that was newest at the start."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.export import queries
from coordinator.export.formats import write_rows
from coordinator.http.errors import NotFoundError
from coordinator.models import Project
from coordinator.projects import service as projects
from shared.export import ROWS, ExportFormat, ExportTable
from shared.protocol import Message

BATCH_ROWS = 1000


def export_table(
    database: Database, session: Session, project: Project, table: ExportTable, format_: ExportFormat
) -> Iterator[bytes]:
    """A project's table, streamed. `session` is only used before the first byte."""
    through = queries.find_last_key(session, table)
    return write_rows(ROWS[table], _list_batches(database, project.id, table, through), format_)


def _list_batches(database: Database, project_id: int, table: ExportTable, through: int) -> Iterator[Sequence[Message]]:
    model = ROWS[table]
    last: Mapping[str, Any] | None = None
    while True:
        with database.scan() as session:
            rows = queries.list_rows(session, table, project_id, last, through, BATCH_ROWS)
        if not rows:
            return
        last = rows[-1]
        yield [model.model_validate(_flatten(row)) for row in rows]


def _flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON columns become text: a table's cells hold no objects."""
    return {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in row.items()}


def find_project(session: Session, name: str) -> Project:
    """The project of that name. Raises NotFoundError."""
    return projects.get_project(session, name)


def find_class(session: Session, project: Project, hardware_class: str | None) -> str:
    """The hardware class asked for, else that with the most runs. Raises NotFoundError where nothing was measured."""
    known = queries.list_classes(session, project.id)
    chosen = hardware_class or next(iter(known), None)
    if chosen is None or chosen not in known:
        raise NotFoundError(f"{project.name} was not measured on {hardware_class or 'anything'} yet.")
    return chosen
