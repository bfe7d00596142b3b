"""The live feed: one poller per replica reads new events and hands them to every listener.

The poller keeps a window of recent events in memory. A listener is a cursor into that window: whoever fell out of
it (a slow reader, or one that comes back with an old cursor) reads the database until it has caught up, so a
listener costs no memory of its own and misses nothing. While nobody listens, nothing is read.

On PostgreSQL ids are given before transactions commit, so events wait for those that may still appear before them
(`queries.list_events_after`).
"""

import asyncio
import signal
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from operator import attrgetter
from types import FrameType

from fastapi import FastAPI

from coordinator.background import BackgroundTasks
from coordinator.db.database import Database
from coordinator.events import queries
from coordinator.http.errors import SwarmError
from coordinator.settings import CoordinatorSettings
from shared.events import EventView

BATCH_EVENTS = 500
WINDOW_EVENTS = 2000


class FeedClosedError(SwarmError, status=503, title="The live feed is closed", headers={"Retry-After": "5"}):
    """The coordinator is stopping, or its feed failed. Connect again in a few seconds and go on from the last id."""


class FeedBusyError(
    SwarmError, status=429, title="This address has as many open streams as it may", headers={"Retry-After": "60"}
):
    """Close other pages of this swarm, or read `/api/v1/events` once for all who share the address."""


class Feed:
    """The feed of one replica. Everything but reading the database happens on the event loop's thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._window: list[EventView] = []
        self._window_start: int | None = None  # the window holds every event after this id; None: nobody polls
        self._listeners = 0
        self._places = Counter[str]()
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        self._closed = False
        self._ended = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        """Whether nobody will hear anything here any more."""
        return self._closed

    async def pause(self, seconds: float) -> None:
        """Wait; less where the feed closes meanwhile."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)

    def check_open(self) -> None:
        """Raise FeedClosedError if nobody will hear anything here any more."""
        if self._closed:
            raise FeedClosedError("The coordinator is stopping. Connect again in a few seconds.")

    @contextmanager
    def hold_place(self, address: str, limit: int) -> Iterator[None]:
        """Hold one of an address's streams of this replica. Raises FeedBusyError."""
        if self._places[address] >= limit:
            raise FeedBusyError(f"An address may have {limit} open.")
        self._places[address] += 1
        try:
            yield
        finally:
            self._places[address] -= 1
            if not self._places[address]:
                del self._places[address]

    def count_listeners(self) -> int:
        return self._listeners

    def close(self) -> None:
        """End all listeners' streams at once. Call it on the event loop's thread; it may be called twice."""
        self._closed = True
        self._ended.set()
        self._wanted.set()
        self._announce()

    async def poll(self) -> None:
        """Read all new events, once somebody listens. Returns at once when the feed is closed."""
        if self._listeners == 0 and not self._closed:
            self._window.clear()
            self._window_start = None
            self._wanted.clear()
            await self._wanted.wait()
        is_behind = True
        while is_behind and not self._closed:
            is_behind = await self._read_batch()

    async def listen(self, since: int | None) -> AsyncGenerator[EventView, None]:
        """Events after the id `since`, or from now on, oldest first. Ends when the feed closes."""
        self._listeners += 1
        self._wanted.set()
        try:
            cursor = await asyncio.to_thread(self._read_last_id) if since is None else since
            while not self._closed:
                news = self._news  # taken before looking, so that what comes after the look wakes us
                events = await self._look_after(cursor)
                for event in events:
                    yield event
                    cursor = event.id
                if not events:
                    await news.wait()
        finally:
            self._listeners -= 1

    async def _look_after(self, cursor: int) -> list[EventView]:
        if self._window_start is None:
            return []
        if cursor < self._window_start:
            return await asyncio.to_thread(self._read_events, cursor)
        return self._window[bisect_right(self._window, cursor, key=attrgetter("id")) :]

    async def _read_batch(self) -> bool:
        """Read the next events into the window. Returns whether there may be more."""
        if self._window_start is None:
            self._window_start = await asyncio.to_thread(self._read_last_id)
            self._announce()
        last = self._window[-1].id if self._window else self._window_start
        events = await asyncio.to_thread(self._read_events, last)
        self._add(events)
        return len(events) == BATCH_EVENTS

    def _add(self, events: list[EventView]) -> None:
        if not events:
            return
        self._window += events
        too_many = len(self._window) - WINDOW_EVENTS
        if too_many > 0:
            self._window_start = self._window[too_many - 1].id
            del self._window[:too_many]
        self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _read_events(self, after_id: int) -> list[EventView]:
        oldest_writer = self._find_oldest_writer()
        with self._database.read() as session:
            return queries.list_events_after(session, after_id, BATCH_EVENTS, oldest_writer)

    def _read_last_id(self) -> int:
        oldest_writer = self._find_oldest_writer()
        with self._database.read() as session:
            return queries.get_last_event_id(session, oldest_writer)

    def _find_oldest_writer(self) -> datetime | None:
        with self._database.read_one() as session:
            return queries.find_oldest_writer(session)


@asynccontextmanager
async def run_feed(app: FastAPI) -> AsyncIterator[Feed]:
    """Run the feed while the application lives; handlers find it as `app.state.feed`.

    A web server waits for open streams before it ends the lifespan, so the feed is closed when a signal stops the
    process (`_closed_at_signals`), or by whoever stops the server otherwise (`CoordinatorServer`).
    """
    settings: CoordinatorSettings = app.state.settings
    feed = app.state.feed = Feed(app.state.database)
    tasks: BackgroundTasks = app.state.background
    async with tasks.repeat("live feed", settings.event_poll_seconds, feed.poll):
        try:
            with _closed_at_signals(feed):
                yield feed
        finally:
            feed.close()


@contextmanager
def _closed_at_signals(feed: Feed) -> Iterator[None]:
    """Has a signal that stops the process close the feed, too. With several processes uvicorn starts each server by
    itself, so no class of ours can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if callable(handler)}

    def close(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(feed.close)
        before[signal.Signals(number)](number, frame)

    for number in before:
        signal.signal(number, close)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
