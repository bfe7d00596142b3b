"""Background tasks: work repeated beside requests, which goes on after any error and has a health that can be read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import structlog

from coordinator.db.engine import UNAVAILABLE_ERRORS
from shared.protocol import now

log = structlog.get_logger()

MAX_BACKOFF_SECONDS = 15.0
"""Longest pause that errors alone cause; a task with a longer interval keeps its interval."""


@dataclass
class TaskHealth:
    """The latest results of a task. `failures` counts the attempts that failed since the last success."""

    name: str
    last_success_at: datetime | None = None
    last_error_at: datetime | None = None
    last_error: str | None = None
    failures: int = 0


class BackgroundTasks:
    """Runs the tasks of one application and records their health."""

    def __init__(self) -> None:
        self._health: dict[str, TaskHealth] = {}

    def list_health(self) -> list[TaskHealth]:
        """The health of every task that was started, including those that have ended."""
        return list(self._health.values())

    @asynccontextmanager
    async def repeat(
        self, name: str, seconds: float, work: Callable[[], None], *, also_at_end: bool = False
    ) -> AsyncIterator[None]:
        """Call `work` in a thread every `seconds`, and once more at the end where `also_at_end` is set.

        A call that is under way at the end is waited for, because it may hold a connection to the database.
        """

        async def work_in_thread() -> None:
            await asyncio.to_thread(work)

        try:
            async with self.repeat_on_loop(name, seconds, work_in_thread):
                yield
        finally:
            if also_at_end:
                await self._attempt(self._health[name], work_in_thread)

    @asynccontextmanager
    async def repeat_on_loop(
        self, name: str, seconds: float, work: Callable[[], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Await `work` every `seconds`. The caller makes a call that is under way return at the end."""
        async with self._run(name, seconds, work, until_success=False):
            yield

    @asynccontextmanager
    async def once(self, name: str, work: Callable[[], None]) -> AsyncIterator[None]:
        """Call `work` in a thread at the start, and again after errors, until it succeeds."""

        async def work_in_thread() -> None:
            await asyncio.to_thread(work)

        async with self._run(name, 0, work_in_thread, until_success=True):
            yield

    @asynccontextmanager
    async def _run(
        self, name: str, seconds: float, work: Callable[[], Awaitable[None]], *, until_success: bool
    ) -> AsyncIterator[None]:
        health = self._health[name] = TaskHealth(name)
        ending = asyncio.Event()

        async def go_on() -> None:
            while not await _is_set_within(ending, max(seconds, _backoff_seconds(health.failures))):
                if await self._attempt(health, work) and until_success:
                    return

        task = asyncio.create_task(go_on(), name=name)
        try:
            yield
        finally:
            ending.set()
            await asyncio.wait([task])

    async def _attempt(self, health: TaskHealth, work: Callable[[], Awaitable[None]]) -> bool:
        """Await `work` once and record the result. Returns whether it succeeded."""
        try:
            await work()
        except Exception as error:
            health.failures += 1
            health.last_error_at, health.last_error = now(), repr(error)
            if isinstance(error, UNAVAILABLE_ERRORS):
                log.warning("a task cannot use the database and tries again", task=health.name, error=str(error))
            else:
                log.error("a task failed and tries again", task=health.name, exc_info=error)
            return False
        health.failures, health.last_success_at = 0, now()
        return True


def _backoff_seconds(failures: int) -> float:
    """The pause after this many failures in a row: 1 s, then doubled each time; 0 without a failure."""
    return min(MAX_BACKOFF_SECONDS, 2.0 ** min(failures - 1, 10)) if failures else 0.0


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
