"""Writing and reading events."""

from typing import Any

from sqlalchemy.orm import Session

from coordinator.events import queries
from shared.events import EventKind, EventView
from shared.protocol import now


def record(session: Session, kind: EventKind, project_id: int | None, **data: Any) -> None:
    """Note that something happened, in the transaction in which it happens."""
    queries.add_event(session, project_id, kind, data, now())


def view_events_after(session: Session, after_id: int, limit: int) -> list[EventView]:
    """Events with an id above `after_id`, oldest first."""
    return [
        EventView(
            id=event.id, kind=EventKind(event.kind), project=project, data=event.data, created_at=event.created_at
        )
        for event, project in queries.list_events_after(session, after_id, limit)
    ]
