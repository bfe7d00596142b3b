"""The feed itself: what listeners hear, and what it costs while nobody does."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import insert, update

from coordinator.background import BackgroundTasks
from coordinator.db.database import Database
from coordinator.events import feed as feed_module
from coordinator.events import queries, service
from coordinator.events.feed import Feed, FeedBusyError, FeedClosedError
from coordinator.models import Event as EventRow
from shared.events import EventKind, EventView
from shared.protocol import now
from tests.support.databases import PostgresServer, SqliteFolder

POLL_SECONDS = 0.02
PATIENCE_SECONDS = 60


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
            while not listening.done():  # it may take a while until it listens
                await asyncio.to_thread(add_event, database)
                await asyncio.sleep(POLL_SECONDS)
            assert (await listening)[0] > 5

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
            async with asyncio.timeout(PATIENCE_SECONDS):
                statements = count_statements(database)
                before = -1
                while len(statements) > before:  # what was under way comes to its end
                    before = len(statements)
                    await asyncio.sleep(10 * POLL_SECONDS)

    asyncio.run(scenario())


def test_many_listeners_cost_one_poller(database: Database) -> None:
    listeners = 40

    async def scenario() -> None:
        async with polling(database) as feed:
            hearing = [asyncio.create_task(hear(feed, 0, 1)) for _ in range(listeners)]
            while feed.count_listeners() < listeners:
                await asyncio.sleep(POLL_SECONDS)
            await asyncio.sleep(5 * POLL_SECONDS)
            statements, began = count_statements(database), monotonic()
            while not statements or monotonic() - began < 10 * POLL_SECONDS:
                await asyncio.sleep(POLL_SECONDS)
            polls = (monotonic() - began) / POLL_SECONDS
            assert len(statements) <= polls + 2, "each poll is one statement, whoever listens"
            await asyncio.to_thread(add_event, database)
            assert await asyncio.gather(*hearing) == [[1]] * listeners

    asyncio.run(scenario())


def test_closing_ends_every_stream_and_refuses_new_ones(database: Database) -> None:
    async def scenario() -> None:
        async with polling(database) as feed:
            streams = [asyncio.create_task(drain(feed)) for _ in range(3)]
            await asyncio.sleep(5 * POLL_SECONDS)
            feed.close()
            assert await asyncio.wait_for(asyncio.gather(*streams), PATIENCE_SECONDS) == [[], [], []]
            with pytest.raises(FeedClosedError):
                feed.check_open()

    asyncio.run(scenario())


async def drain(feed: Feed) -> list[EventView]:
    return [event async for event in feed.listen(None)]


@pytest.fixture
def postgresql(postgres: PostgresServer) -> Iterator[Database]:
    address = postgres.create_migrated()
    database = Database(address)
    yield database
    database.close()
    postgres.drop(address)


def commit_one_late(database: Database, meanwhile: int = 0) -> tuple[list[int], int]:
    """The ids that a listener hears while one transaction commits after a later one, and the cursor of a page that was
    read meanwhile. So many events come `meanwhile`; where there should be none, it listens for a moment."""

    async def scenario() -> tuple[list[int], int]:
        async with polling(database) as feed:
            with database.write() as late:
                service.record(late, EventKind.RUN_STORED, None)
                add_event(database)
                heard = await (hear(feed, 0, meanwhile) if meanwhile else hear_for(feed, 20 * POLL_SECONDS))
                with database.read() as session:
                    cursor = queries.get_page_cursor(session)
            last = heard[-1] if heard else 0
            add_event(database)
            return heard + await hear(feed, last, 3 - last), cursor

    return asyncio.run(scenario())


async def hear_for(feed: Feed, seconds: float) -> list[int]:
    """The ids of the events within this time."""
    heard: list[int] = []

    async def listen() -> None:
        async for event in feed.listen(0):
            heard.append(event.id)

    with suppress(TimeoutError):
        await asyncio.wait_for(listen(), seconds)
    return heard


def test_on_postgresql_an_event_that_is_committed_late_is_heard_in_its_turn(postgresql: Database) -> None:
    assert commit_one_late(postgresql) == ([1, 2, 3], 0)


def test_without_waiting_for_older_transactions_it_is_passed_over(
    postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "find_oldest_writer", lambda _session: None)
    heard, _ = commit_one_late(postgresql, meanwhile=1)
    assert heard == [2, 3], "what the wait is for"


def test_a_long_transaction_does_not_stop_the_feed(postgresql: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "LONGEST_WAIT_SECONDS", 0.0)
    heard, _ = commit_one_late(postgresql, meanwhile=1)
    assert heard[0] == 2


def test_one_that_rolls_back_and_one_that_began_later_hold_nothing_up(postgresql: Database) -> None:
    async def scenario() -> list[int]:
        async with polling(postgresql) as feed:
            with suppress(KeyError), postgresql.write() as session:
                service.record(session, EventKind.RUN_STORED, None)
                raise KeyError
            add_event(postgresql)
            with postgresql.write() as later:
                service.record(later, EventKind.RUN_STORED, None)
                heard = await hear(feed, 0, 1)
            return heard + await hear(feed, heard[-1], 1)

    assert asyncio.run(scenario()) == [2, 3]


def test_events_of_before_have_no_time_and_wait_for_nobody(postgresql: Database) -> None:
    add_event(postgresql)
    with postgresql.write() as session:
        session.execute(update(EventRow).values(numbered_at=None))
    with postgresql.read() as session:
        assert queries.get_page_cursor(session) == 1


def test_one_address_holds_so_many_streams_and_keeps_nobody_else_out(database_url: str) -> None:
    feed = Feed(Database(database_url))
    with ExitStack() as streams:
        for _ in range(3):
            streams.enter_context(feed.hold_place("mallory", 3))
        with pytest.raises(FeedBusyError), feed.hold_place("mallory", 3):
            pass
        with feed.hold_place("mallory", 300), feed.hold_place("ada", 3):
            pass
    with feed.hold_place("mallory", 3):
        pass
