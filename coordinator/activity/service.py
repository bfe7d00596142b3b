"""Writing events."""

from typing import Any

from sqlalchemy.orm import Session

from coordinator.models import Event
from shared.events import EventKind
from shared.protocol import now


def record(session: Session, kind: EventKind, project_id: int | None, **data: Any) -> None:
    """Note that something happened, in the transaction in which it happens."""
    session.add(Event(project_id=project_id, kind=kind, data=data, created_at=now()))
