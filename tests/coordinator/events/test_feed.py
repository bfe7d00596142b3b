"""The feed itself: what listeners hear, and what it costs while nobody does."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import insert

from coordinator.background import BackgroundTasks
from coordinator.db.database import Database
from coordinator.events import feed as feed_module
from coordinator.events import service
from coordinator.events.feed import Feed, FeedClosedError
from coordinator.models import Event as EventRow
from shared.events import EventKind, EventView
from shared.protocol import now
from tests.support.databases import SqliteFolder

POLL_SECONDS = 0.02
PATIENCE_SECONDS = 20


@pytest.fixture
def database(sqlite_folder: SqliteFolder, tmp_path: Path) -> Iterator[Database]:
    database = Database(sqlite_folder.create_migrated(tmp_path))
    yield database
    database.close()


def add_event(database: Database, **data: Any) -> None:
    with database.write() as session:
        service.record(session, EventKind.RUN_STORED, None, **data)


def add_many(database: Database, count: int) -> None:
    row: dict[str, Any] = {"project_id": None, "kind": EventKind.LEASE_CLAIMED, "data": {}, "created_at": now()}
    with database.write() as session:
        session.execute(insert(EventRow), [row] * count)


@asynccontextmanager
async def polling(database: Database) -> AsyncIterator[Feed]:
    feed = Feed(database)
    async with BackgroundTasks().repeat("feed", POLL_SECONDS, feed.poll):
        yield feed
        feed.close()


async def hear(feed: Feed, since: int | None, count: int) -> list[int]:
    """The ids of the next `count` events."""
    ids: list[int] = []
    stream = feed.listen(since)
    while len(ids) < count:
        ids.append((await asyncio.wait_for(anext(stream), PATIENCE_SECONDS)).id)
    await stream.aclose()
    return ids


def test_a_listener_hears_what_came_after_its_cursor_once_and_in_order(database: Database) -> None:
    add_many(database, 5)

    async def scenario() -> None:
        async with polling(database) as feed:
            listening = asyncio.create_task(hear(feed, 2, 6))
            await asyncio.sleep(5 * POLL_SECONDS)
            for _ in range(3):
                await asyncio.to_thread(add_event, database)
            assert await listening == [3, 4, 5, 6, 7, 8]

    asyncio.run(scenario())


def test_without_a_cursor_it_begins_now(database: Database) -> None:
    add_many(database, 5)

    async def scenario() -> None:
        async with polling(database) as feed:
            listening = asyncio.create_task(hear(feed, None, 1))
            await asyncio.sleep(10 * POLL_SECONDS)
            await asyncio.to_thread(add_event, database)
            assert await listening == [6]

    asyncio.run(scenario())


def test_who_fell_out_of_the_window_catches_up_from_the_database(database: Database) -> None:
    count = feed_module.WINDOW_EVENTS + feed_module.BATCH_EVENTS + 7

    async def scenario() -> None:
        async with polling(database) as feed:
            keeps_it_polling = asyncio.create_task(hear(feed, 0, count))
            await asyncio.sleep(3 * POLL_SECONDS)
            await asyncio.to_thread(add_many, database, count)
            assert await keeps_it_polling == list(range(1, count + 1))
            assert await hear(feed, 0, count) == list(range(1, count + 1))

    asyncio.run(scenario())


def count_statements(database: Database) -> list[str]:
    statements: list[str] = []

    @sqlalchemy_event.listens_for(database.engine, "before_cursor_execute")
    def _count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):
            statements.append(statement)

    return statements


def test_nothing_is_read_while_nobody_listens(database: Database) -> None:
    async def scenario() -> None:
        async with polling(database) as feed:
            await asyncio.to_thread(add_event, database)
            assert await hear(feed, 0, 1) == [1]
            await asyncio.sleep(5 * POLL_SECONDS)
            statements = count_statements(database)
            await asyncio.sleep(10 * POLL_SECONDS)
            assert statements == []

    asyncio.run(scenario())


def test_many_listeners_cost_one_poller(database: Database) -> None:
    listeners = 40

    async def scenario() -> None:
        async with polling(database) as feed:
            hearing = [asyncio.create_task(hear(feed, 0, 1)) for _ in range(listeners)]
            await asyncio.sleep(5 * POLL_SECONDS)
            statements = count_statements(database)
            await asyncio.sleep(10 * POLL_SECONDS)
            assert 1 <= len(statements) <= 12, "each poll is one statement, whoever listens"
            await asyncio.to_thread(add_event, database)
            assert await asyncio.gather(*hearing) == [[1]] * listeners

    asyncio.run(scenario())


def test_closing_ends_every_stream_and_refuses_new_ones(database: Database) -> None:
    async def scenario() -> None:
        async with polling(database) as feed:
            streams = [asyncio.create_task(drain(feed)) for _ in range(3)]
            await asyncio.sleep(5 * POLL_SECONDS)
            feed.close()
            assert await asyncio.wait_for(asyncio.gather(*streams), 1) == [[], [], []]
            with pytest.raises(FeedClosedError):
                feed.check_open()

    asyncio.run(scenario())


async def drain(feed: Feed) -> list[EventView]:
    return [event async for event in feed.listen(None)]
