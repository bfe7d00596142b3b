"""Heartbeats that wait to be written: most renew a lease and change nothing else, so many go into one transaction.

A heartbeat is answered once it is held here; within a second it is in the database. If the coordinator dies in
between, the last second of heartbeats is lost, of the 180 that a lease lasts without any: no job is. What changes a
lease's phase, or comes late in its life, is never held.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any
from uuid import UUID

from fastapi import FastAPI

from coordinator.background import BackgroundTasks
from coordinator.db.database import Database
from coordinator.db.engine import Conn
from coordinator.leases import queries
from coordinator.leases.state import LeaseClock

HOLD_SECONDS = 1.0


@dataclass(frozen=True)
class HeldHeartbeat:
    """A lease after a heartbeat that is not written yet."""

    clock: LeaseClock
    loss: float | None
    expires_at: datetime


class HeldHeartbeats:
    """The newest heartbeat of each lease, until it is written."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: dict[UUID, HeldHeartbeat] = {}

    def hold(self, lease_id: UUID, heartbeat: HeldHeartbeat) -> None:
        with self._lock:
            self._held[lease_id] = heartbeat

    def find(self, lease_id: UUID, stored: LeaseClock) -> HeldHeartbeat | None:
        """The held heartbeat of a lease, if it is newer than the stored one and the lease has not ended since."""
        held = self._held.get(lease_id)
        if held is None or held.clock.heartbeat_at < stored.heartbeat_at:
            return None
        is_current = (held.clock.state, held.clock.phase) == (stored.state, stored.phase)
        return held if is_current else None

    def forget(self, lease_id: UUID) -> None:
        """Hold nothing of a lease that has ended."""
        with self._lock:
            self._held.pop(lease_id, None)

    def write_of(self, session: Conn, lease_id: UUID) -> None:
        """Write what is held of one lease, for a transaction that is about to change it."""
        held = self._held.get(lease_id)
        if held is not None:
            queries.store_heartbeats(session, [_row(lease_id, held)])

    def write_all(self, database: Database) -> None:
        """Write what is held, and hold it no longer; if the database refuses, it stays."""
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        with database.begin() as session:
            queries.store_heartbeats(session, [_row(lease_id, heartbeat) for lease_id, heartbeat in held.items()])
        with self._lock:
            for lease_id, heartbeat in held.items():
                if self._held.get(lease_id) is heartbeat:
                    del self._held[lease_id]


def _row(lease_id: UUID, heartbeat: HeldHeartbeat) -> dict[str, Any]:
    clock = heartbeat.clock
    return {
        "lease_id": lease_id,
        "new_phase": clock.phase,
        "new_at": clock.heartbeat_at,
        "new_step": clock.step,
        "new_share": clock.share,
        "new_loss": heartbeat.loss,
        "new_progressed_at": clock.progressed_at,
        "new_expires_at": heartbeat.expires_at,
    }


@asynccontextmanager
async def run_held_heartbeats(app: FastAPI) -> AsyncIterator[None]:
    """Write held heartbeats each second while the application lives, and at its end."""
    held_heartbeats = app.state.held_heartbeats = HeldHeartbeats()
    database: Database = app.state.database
    tasks: BackgroundTasks = app.state.background
    async with tasks.repeat("heartbeats", HOLD_SECONDS, lambda: held_heartbeats.write_all(database), also_at_end=True):
        yield
