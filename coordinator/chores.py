"""What the coordinator does by itself now and then, while it lives."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

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

    task = asyncio.create_task(go_on(), name=name)
    task.add_done_callback(_tell_mistake)
    try:
        yield
    finally:
        ending.set()
        await asyncio.wait([task])


async def _comes(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _tell_mistake(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("what should go on has ended", task=task.get_name(), exc_info=error)
