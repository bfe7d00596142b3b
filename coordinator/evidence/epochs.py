"""Epochs end by themselves: a task that looks now and then whether enough runs came."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from coordinator.background import BackgroundTasks
from coordinator.db.database import Database
from coordinator.evidence.recompute import end_epoch, list_over


@asynccontextmanager
async def run_epochs(app: FastAPI) -> AsyncIterator[None]:
    """End the epochs that are over while the application lives. Every process may do so: the first one finds work."""
    database: Database = app.state.database
    tasks: BackgroundTasks = app.state.background
    async with tasks.repeat("epochs", app.state.settings.epoch_check_seconds, lambda: _end_due_epochs(database)):
        yield


def _end_due_epochs(database: Database) -> None:
    """Start a new epoch in each class where enough runs came, each in a short transaction of its own."""
    with database.read() as session:
        over = list_over(session)
    for project_id, hardware_class in over:
        with database.write() as session:
            end_epoch(session, project_id, hardware_class)
