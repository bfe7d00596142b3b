"""Epochs end by themselves: a task that looks now and then whether enough runs came."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError

from coordinator.background import repeat
from coordinator.db.database import Database
from coordinator.db.engine import WritersBusyError
from coordinator.evidence.recompute import end_epoch, list_over

log = structlog.get_logger()


@asynccontextmanager
async def run_epochs(app: FastAPI) -> AsyncIterator[None]:
    """Look for epochs that are over while the application lives. Replicas may all do so: the first one finds work."""
    database: Database = app.state.database
    async with repeat("epochs", app.state.settings.epoch_check_seconds, lambda: _try_to_end(database)):
        yield


def _try_to_end(database: Database) -> None:
    try:
        with database.read() as session:
            over = list_over(session)
        for project_id, hardware_class in over:  # each in a transaction of its own: nobody waits for all of them
            with database.write() as session:
                end_epoch(session, project_id, hardware_class)
    except (OperationalError, WritersBusyError) as error:
        log.warning("epochs cannot be ended, trying again", error=str(error))
