"""Live pages of projects: each change is rendered once and sent to all who look at the page, as what differs.

A page names the state that it shows. Its stream begins with what differs between that state and now, and goes on with
what changes, at most once a second; the parts of a page are rendered once a second for all viewers of this replica,
less often where that takes long, and only if something happened. Those who open the page as soon after another get what
was made for the first of them, and so do those who look at it already. States that are not known here any more, or
never were (another replica's), get all parts.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from threading import Lock
from time import monotonic

from coordinator.db.cache import Cache
from coordinator.db.database import Database
from coordinator.events import queries as events_queries
from coordinator.events.feed import Feed
from coordinator.web import project_page
from coordinator.web.project_page import Context, Parts

RENDER_SECONDS = 1.0
"""Shortest time between two renderings of a page."""

RENDER_SHARE = 1 / 50
"""Largest part of a replica's time in which it renders one page for those who look at it, and as much for those who
open it: workers' requests wait behind that, and behind sending the changes to all who look."""

SELDOM_SECONDS = 10.0
"""Longest time between two renderings of a page, however long they take."""

NO_EVENT = -1
"""Stands for the newest event of a page that was opened: which one it was is not known."""

QUIET_SECONDS = 5.0
"""Longest time between them: heartbeats and leases that end by themselves leave no event."""

STATES_KEPT = 64
"""Number of states of pages that are kept to tell the difference; each is some 60 kB at most."""

Key = tuple[str, str | None]
"""A project's name and a hardware class."""

FRONT: Key = ("", None)
"""The front page, which is of no project."""


class LivePages:
    """The live pages of one replica. Its methods run on the event loop's thread, `keep` on any."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._states = Cache[str, Parts](STATES_KEPT)
        self._newest: dict[Key, _Rendered] = {}
        self._locks: dict[Key, asyncio.Lock] = {}
        self._viewers: dict[Key, int] = {}
        self._messages = Cache[tuple[str, str], str](STATES_KEPT)
        self._opened = Cache[Key, _Opened](STATES_KEPT)
        self._opening = Lock()
        self.rest_factor = 1.0  # 0 where a page is read right after something was stored

    def open(self, key: Key, make: Callable[[], tuple[Context, Parts]]) -> tuple[Context, Parts]:
        """A page with its parts: what `make` made for whoever opened it a moment before, or makes now."""
        with self._opening:
            opened = self._opened.find(key) or self._opened.store(key, _Opened())
        with opened.lock:
            moment = monotonic()
            if opened.made is None or moment >= opened.at + opened.rest * self.rest_factor:
                opened.made = make()
                opened.at, opened.rest = moment, _rest_seconds(moment)
                self.keep(opened.made[1])
                if key in self._viewers:
                    self._newest[key] = _Rendered(opened.made[1], NO_EVENT, moment)
            return opened.made

    def keep(self, parts: Parts) -> None:
        """Remember what a page shows."""
        self._states.store(parts.state, parts)

    async def follow(self, feed: Feed, key: Key, state: str) -> AsyncGenerator[str, None]:
        """Changes of a page that shows `state`, as JSON (`project_page.find_changes`). Ends when the feed closes."""
        self._viewers[key] = self._viewers.get(key, 0) + 1
        try:
            while not feed.is_closed:
                newest = (await self._render(key)).parts
                if newest.state != state:
                    yield self._tell(state, newest)
                    state = newest.state
                await feed.pause(RENDER_SECONDS)
        finally:
            self._viewers[key] -= 1
            if not self._viewers[key]:
                for kept in (self._viewers, self._newest, self._locks):
                    kept.pop(key, None)

    def _tell(self, state: str, newest: Parts) -> str:
        """The message that leads from one state to another, made once for all who need it."""
        pair = (state, newest.state)
        message = self._messages.find(pair)
        return message or self._messages.store(
            pair, json.dumps(project_page.find_changes(self._states.find(state), newest))
        )

    async def _render(self, key: Key) -> "_Rendered":
        async with self._locks.setdefault(key, asyncio.Lock()):
            before = self._newest.get(key)
            if before is not None and monotonic() < before.fresh_until:
                return before
            rendered = await asyncio.to_thread(self._read, key, before)
            opened = self._newest.get(key)
            if opened is not None and opened.changed_at > rendered.changed_at:
                return opened  # somebody opened the page meanwhile
            self._newest[key] = rendered
            self.keep(rendered.parts)
            return rendered

    def _read(self, key: Key, before: "_Rendered | None") -> "_Rendered":
        moment = monotonic()
        with self._database.read() as session:
            event_id = events_queries.get_last_event_id(session)
            if before is not None and event_id == before.event_id and moment - before.changed_at < QUIET_SECONDS:
                before.fresh_until = moment + RENDER_SECONDS
                return before
            if key == FRONT:
                _, parts = project_page.view_front(session)
            else:
                parts = project_page.read_parts(session, project_page.choose(session, *key))
        return _Rendered(parts, event_id, moment)


class _Opened:
    """A page that was made for somebody, when, and for how long others get it, too."""

    def __init__(self) -> None:
        self.lock, self.at, self.rest = Lock(), 0.0, 0.0
        self.made: tuple[Context, Parts] | None = None


class _Rendered:
    """Parts of a page, the newest event then, when they were read, and until when nobody looks for newer ones."""

    def __init__(self, parts: Parts, event_id: int, changed_at: float) -> None:
        """Just rendered, from what was read since `changed_at`."""
        self.parts, self.event_id, self.changed_at = parts, event_id, changed_at
        self.fresh_until = changed_at + _rest_seconds(changed_at)


def _rest_seconds(moment: float) -> float:
    """How long what was rendered since `moment` is not rendered again."""
    return min(max(RENDER_SECONDS, (monotonic() - moment) / RENDER_SHARE), SELDOM_SECONDS)
