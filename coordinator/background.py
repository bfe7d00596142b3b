"""Background tasks: work repeated beside requests, which goes on after any error and has a health that can be read."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from inspect import iscoroutinefunction

import structlog

from coordinator.db.engine import UNAVAILABLE_ERRORS
from shared.protocol import now

log = structlog.get_logger()

MAX_BACKOFF_SECONDS = 15.0
"""Longest pause that errors alone cause; a task with a longer interval keeps its interval."""


@dataclass
class TaskHealth:
    """The latest results of a task. `failures` counts the attempts that failed since the last success; `is_alive` is
    False where the task ended before it should."""

    name: str
    last_success_at: datetime | None = None
    last_error_at: datetime | None = None
    last_error: str | None = None
    failures: int = 0
    is_alive: bool = True


class BackgroundTasks:
    """Runs the tasks of one application and records their health."""

    def __init__(self) -> None:
        self._health: dict[str, TaskHealth] = {}

    def list_health(self) -> list[TaskHealth]:
        """The health of every task that was started, including those that have ended."""
        return list(self._health.values())

    @asynccontextmanager
    async def repeat(
        self, name: str, seconds: float, work: Callable[[], object], *,
        until_success: bool = False, also_at_end: bool = False,
    ) -> AsyncIterator[None]:  # fmt: skip
        """Call `work` every `seconds` or until its first success, and once more at the end if `also_at_end` is set.

        A coroutine function is awaited on the event loop, another function is called in a thread. A call under way at
        the end is waited for, because it may hold a connection to the database.
        """
        health = self._health[name] = TaskHealth(name)
        ending = asyncio.Event()

        async def go_on() -> None:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(ending.wait(), max(seconds, _backoff_seconds(health.failures)))
                if ending.is_set() or (await _attempt(health, work) and until_success):
                    return

        def on_end(task: "asyncio.Task[None]") -> None:
            health.is_alive = not task.cancelled() and task.exception() is None

        task = asyncio.create_task(go_on(), name=name)
        task.add_done_callback(on_end)
        try:
            yield
        finally:
            ending.set()
            await asyncio.wait([task])
            if also_at_end:
                await _attempt(health, work)


async def _attempt(health: TaskHealth, work: Callable[[], object]) -> bool:
    """Call `work` once and record the result. Returns whether it succeeded."""
    try:
        await (work() if iscoroutinefunction(work) else asyncio.to_thread(work))
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
