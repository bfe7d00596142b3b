"""Background tasks: they repeat, survive every error, and say how they are."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from coordinator.app import create_app
from coordinator.background import BackgroundTasks, TaskHealth
from coordinator.db.database import Database
from coordinator.leases.heartbeats import HeldHeartbeat
from coordinator.leases.state import LeaseClock
from coordinator.novelty.similarity import Similarity
from coordinator.settings import CoordinatorSettings
from shared.events import EventView
from shared.leases import LeaseState, Phase
from shared.protocol import now
from tests.support.databases import ON_ONE_ENGINE

TASKS = {
    "live feed",
    "heartbeats",
    "epochs",
    "decisions",
    "quarantines",
    "job mix",
    "history",
    "progress",
    "digests",
    "notices",
    "vector index",
    "embeddings of findings",
    "deferred embeddings",
}


def test_work_repeats_and_is_waited_for_at_the_end() -> None:
    calls: list[str] = []
    third, may_end = threading.Event(), threading.Event()

    def work() -> None:
        calls.append("begun")
        if len(calls) == 3:
            third.set()
            assert may_end.wait(60)
            calls.append("ended")

    async def live() -> None:
        async with BackgroundTasks().repeat("work", 0.001, work):
            assert await asyncio.to_thread(third.wait, 60)
            asyncio.get_running_loop().call_later(0.05, may_end.set)

    asyncio.run(live())
    assert calls == ["begun", "begun", "begun", "ended"]


def test_the_end_does_not_wait_for_the_next_time_but_may_ask_for_one_more_call() -> None:
    calls: list[str] = []

    async def live() -> None:
        tasks = BackgroundTasks()
        async with (
            tasks.repeat("work", 60, lambda: calls.append("called")),
            tasks.repeat("last work", 60, lambda: calls.append("called last"), also_at_end=True),
        ):
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(live(), 30))
    assert calls == ["called last"]


def test_work_goes_on_after_an_error() -> None:
    attempts: list[int] = []
    succeeded = threading.Event()

    def work() -> None:
        attempts.append(len(attempts))
        if len(attempts) == 1:
            raise ValueError("a mistake in this program")
        succeeded.set()

    async def live() -> BackgroundTasks:
        tasks = BackgroundTasks()
        async with tasks.repeat("work", 0.001, work), tasks.repeat("first", 0, lambda: None, until_success=True):
            assert await asyncio.to_thread(succeeded.wait, 60)
        return tasks

    with capture_logs() as logged:
        work_health, first_health = asyncio.run(live()).list_health()
    assert logged[0]["task"] == "work" and isinstance(logged[0]["exc_info"], ValueError)
    assert work_health.last_error == "ValueError('a mistake in this program')" and work_health.failures == 0
    assert work_health.last_error_at is not None and work_health.last_success_at is not None
    assert first_health.last_success_at is not None and first_health.last_error is None


class FaultyDatabase(Database):
    """A database whose sessions cannot begin while `fault` is set."""

    fault: Exception | None = None

    @contextmanager
    def read(self) -> Iterator[Session]:
        if self.fault is not None:
            raise self.fault
        with super().read() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        if self.fault is not None:
            raise self.fault
        with super().write() as session:
            yield session

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        if self.fault is not None:
            raise self.fault
        with super().connect() as connection:
            yield connection

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        if self.fault is not None:
            raise self.fault
        with super().begin() as connection:
            yield connection


@pytest.mark.parametrize(
    "fault",
    [
        PoolTimeoutError("no connection is free"),
        OperationalError("select 1", {}, Exception("the server is gone")),
        KeyError("a mistake in this program"),
    ],
)
@ON_ONE_ENGINE
def test_every_task_of_the_application_goes_on_after_an_error(database_url: str, fault: Exception) -> None:
    settings = CoordinatorSettings(
        database_url=database_url, event_poll_seconds=0.01, epoch_check_seconds=0.01, meaning_check_seconds=0.01,
        progress_count_seconds=0.01, webhooks="http://127.0.0.1:9/nobody",
    )  # fmt: skip
    app = create_app(settings)
    database = app.state.database = FaultyDatabase(database_url)
    app.state.similarity = Similarity(database, settings)
    database.fault = fault
    clock = LeaseClock(LeaseState.RUNNING, Phase.TRAINING, 0, 0.0, now(), now(), now(), now())

    def are_all(is_so: Callable[[TaskHealth], bool]) -> bool:
        held = HeldHeartbeat(clock, None, now() + timedelta(seconds=100))
        app.state.held_heartbeats.hold(uuid4(), held)  # so that there is something to write
        health = app.state.background.list_health()
        return {task.name for task in health} == TASKS and all(map(is_so, health))

    async def wait_until(is_reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_reached():
                await asyncio.sleep(0.01)

    async def listen(heard: list[EventView]) -> None:
        async for event in app.state.feed.listen(0):
            heard.append(event)

    async def live() -> None:
        async with app.router.lifespan_context(app):
            listening = asyncio.create_task(listen([]))
            await wait_until(lambda: are_all(lambda task: task.last_error_at is not None))
            database.fault = None
            await wait_until(lambda: are_all(lambda task: task.failures == 0 and task.last_success_at is not None))
        await listening

    with capture_logs():
        asyncio.run(live())
    database.close()
