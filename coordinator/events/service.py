"""Writing events."""

from typing import Any

from coordinator.db.engine import Conn
from coordinator.events import queries
from shared.events import EventKind
from shared.protocol import now


def record(session: Conn, kind: EventKind, project_id: int | None, **data: Any) -> None:
    """Note that something happened, in the transaction in which it happens."""
    queries.add_event(session, project_id, kind, data, now())
