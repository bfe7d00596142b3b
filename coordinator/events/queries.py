"""Events, in and out."""

from datetime import datetime
from typing import Any

from sqlalchemy import Select, insert, or_, select, text
from sqlalchemy.orm import Session

from coordinator.db.engine import Conn, engine_of
from coordinator.models import Event, Project, table_of, view_of
from shared.events import EventView

_ADD = insert(table_of(Event))


def add_event(session: Conn, project_id: int | None, kind: str, data: dict[str, Any], moment: datetime) -> None:
    session.execute(_ADD, {"project_id": project_id, "kind": kind, "data": data, "created_at": moment})


LONGEST_WAIT_SECONDS = 30.0
"""Longest wait of an event for transactions that began before it, so that a long one does not stop the feed."""

PAGE_SLACK_SECONDS = 5.0
"""Longest transaction that a page's cursor allows for. Events of as long before the page are told once more."""

_WRITERS = "from pg_stat_activity where backend_xid is not null and datname = current_database()"
_OLDEST_WRITER = text(
    f"select greatest(min(xact_start), now() - make_interval(secs => :seconds)) {_WRITERS} having count(*) > 0"
)
_PAGE_MOMENT = text(f"select least(min(xact_start), now() - make_interval(secs => :seconds)) {_WRITERS}")


def find_oldest_writer(session: Conn) -> datetime | None:
    """When the oldest transaction that may still add events began; None where there is none, and on SQLite.

    A transaction holds no id below that of an event numbered before it began. Ask this in a transaction of its own,
    before the one that reads events: it looks at other transactions as they are now, not at the reader's snapshot.
    """
    if engine_of(session).dialect.name != "postgresql":
        return None
    oldest: datetime | None = session.scalar(_OLDEST_WRITER, {"seconds": LONGEST_WAIT_SECONDS})
    return oldest


def list_events_after(
    session: Session, after_id: int, limit: int, oldest_writer: datetime | None = None
) -> list[EventView]:
    """Events with an id above `after_id`, oldest first, up to the last that no later event can precede."""
    query = (
        select(Event, Project.name)
        .outerjoin(Project, Project.id == Event.project_id)
        .where(Event.id > after_id)
        .order_by(Event.id)
        .limit(limit)
    )
    if oldest_writer is not None:
        query = query.where(Event.id <= _select_last(oldest_writer).scalar_subquery())
    return [view_of(EventView, event, project=project) for event, project in session.execute(query)]


def get_last_event_id(session: Conn, oldest_writer: datetime | None = None) -> int:
    """The last event that no later one can precede; 0 without any."""
    return session.scalar(_select_last(oldest_writer)) or 0


def _select_last(oldest_writer: datetime | None) -> Select[int]:
    query = select(Event.id).order_by(Event.id.desc()).limit(1)
    if oldest_writer is None:
        return query
    return query.where(or_(Event.numbered_at.is_(None), Event.numbered_at < oldest_writer))


def get_page_cursor(session: Conn) -> int:
    """A cursor for a page that shows what `session` sees: nothing that comes later is missed after it."""
    is_postgresql = engine_of(session).dialect.name == "postgresql"
    moment = session.scalar(_PAGE_MOMENT, {"seconds": PAGE_SLACK_SECONDS}) if is_postgresql else None
    return get_last_event_id(session, moment)
