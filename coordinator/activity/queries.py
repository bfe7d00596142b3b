"""Reading events."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.models import Event


def list_events_after(session: Session, after_id: int, limit: int) -> Sequence[Event]:
    return session.scalars(select(Event).where(Event.id > after_id).order_by(Event.id).limit(limit)).all()


def get_last_event_id(session: Session) -> int:
    return session.scalar(select(func.max(Event.id))) or 0
