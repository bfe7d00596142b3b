"""A worker of a volunteer, by its name."""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select

from coordinator.db.engine import Conn
from coordinator.models import Token, Volunteer, Worker, table_of
from coordinator.models.accounts import IS_STOPPED, IS_VALID_TOKEN
from shared.protocol import now


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
    quarantine: str | None = None
    pause: str | None = None
    version: str = ""
    state_reason: str = ""


_WORKERS, _TOKENS, _VOLUNTEERS = table_of(Worker), table_of(Token), table_of(Volunteer)
_ROW = tuple(_WORKERS.c[name] for name in WorkerRow._fields)
_LOCK = (
    select(*_ROW)
    .where(_WORKERS.c.volunteer_id == bindparam("volunteer_id"), _WORKERS.c.name == bindparam("name"))
    .with_for_update(key_share=True)
)
_LOCK_ALL = (
    select(_WORKERS.c.id).where(_WORKERS.c.volunteer_id == bindparam("volunteer_id")).order_by(_WORKERS.c.id)
).with_for_update(key_share=True)
_ASKER = (
    select(_TOKENS.c.volunteer_id, *_ROW)
    .outerjoin(_WORKERS, (_WORKERS.c.volunteer_id == _TOKENS.c.volunteer_id) & (_WORKERS.c.name == bindparam("name")))
    .join(_VOLUNTEERS, _VOLUNTEERS.c.id == _TOKENS.c.volunteer_id)
    .where(_TOKENS.c.sha256 == bindparam("sha256"), IS_VALID_TOKEN, ~IS_STOPPED)
)


def find_asker(session: Conn, token_sha256: str, name: str) -> tuple[int, WorkerRow | None] | None:
    """The volunteer whose valid token has this hash, if they may work, and their worker of that name."""
    row = session.execute(_ASKER, {"sha256": token_sha256, "name": name, "moment": now()}).first()
    if row is None:
        return None
    return row[0], None if row[1] is None else WorkerRow._make(row[1:])


def lock_worker(session: Conn, volunteer_id: int, name: str) -> WorkerRow | None:
    """The worker, with its row locked until the transaction ends: its claims come one after the other."""
    row = session.execute(_LOCK, {"volunteer_id": volunteer_id, "name": name}).first()
    return WorkerRow._make(row) if row else None


def lock_workers(session: Conn, volunteer_id: int) -> None:
    """Lock the rows of all workers of an account until the transaction ends."""
    session.execute(_LOCK_ALL, {"volunteer_id": volunteer_id})
