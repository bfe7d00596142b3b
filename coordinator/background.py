"""What the coordinator does by itself now and then, while it lives."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

log = structlog.get_logger()


@asynccontextmanager
async def repeat(name: str, seconds: float, work: Callable[[], None]) -> AsyncIterator[None]:
    """Call `work` in a thread, again and again, with so many seconds between.

    At the end it is waited for where it is under way: it may hold a connection to the database. What it raises ends it,
    and is logged at once.
    """
    ending = asyncio.Event()

    async def go_on() -> None:
        while not await _comes(ending, seconds):
            await asyncio.to_thread(work)

    task = _begin(name, go_on())
    try:
        yield
    finally:
        ending.set()
        await asyncio.wait([task])


@asynccontextmanager
async def once(name: str, work: Callable[[], None]) -> AsyncIterator[None]:
    """Call `work` in a thread at the start, beside everything else. As `repeat`, it is waited for at the end."""
    task = _begin(name, asyncio.to_thread(work))
    try:
        yield
    finally:
        await asyncio.wait([task])


def _begin(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell_mistake)
    return task


async def _comes(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _tell_mistake(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("what should go on has ended", task=task.get_name(), exc_info=error)
