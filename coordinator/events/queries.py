"""Events, in and out."""

from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from coordinator.models import Event, Project, table_of, view_of
from shared.events import EventView

_ADD = insert(table_of(Event))


def add_event(session: Session, project_id: int | None, kind: str, data: dict[str, Any], moment: datetime) -> None:
    session.execute(_ADD, {"project_id": project_id, "kind": kind, "data": data, "created_at": moment})


def list_events_after(session: Session, after_id: int, limit: int) -> list[EventView]:
    """Events with an id above `after_id`, oldest first."""
    query = (
        select(Event, Project.name)
        .outerjoin(Project, Project.id == Event.project_id)
        .where(Event.id > after_id)
        .order_by(Event.id)
        .limit(limit)
    )
    return [view_of(EventView, event, project=project) for event, project in session.execute(query)]


def get_last_event_id(session: Session) -> int:
    return session.scalar(select(func.max(Event.id))) or 0
