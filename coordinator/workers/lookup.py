"""A worker of a volunteer, by its name."""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from coordinator.models import Worker, table_of


class WorkerRow(NamedTuple):
    """A worker, as `Worker` stores it."""

    id: int
    volunteer_id: int
    name: str
    agent: str
    hardware: dict[str, Any]
    hardware_class: str
    state: str
    last_seen_at: datetime


_WORKERS = table_of(Worker)
_FIND = select(*(_WORKERS.c[name] for name in WorkerRow._fields)).where(
    _WORKERS.c.volunteer_id == bindparam("volunteer_id"), _WORKERS.c.name == bindparam("name")
)
_LOCK = _FIND.with_for_update()


def find_worker(session: Session, volunteer_id: int, name: str) -> WorkerRow | None:
    row = session.execute(_FIND, {"volunteer_id": volunteer_id, "name": name}).first()
    return WorkerRow._make(row) if row else None


def lock_worker(session: Session, volunteer_id: int, name: str) -> WorkerRow | None:
    """The worker, with its row locked until the transaction ends: its claims come one after the other."""
    row = session.execute(_LOCK, {"volunteer_id": volunteer_id, "name": name}).first()
    return WorkerRow._make(row) if row else None
