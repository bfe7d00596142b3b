"""Threads that handlers of jobs run in: few, and each handed its work through one queue."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from fastapi import FastAPI

from coordinator.db import Database
from coordinator.engines import WouldWaitError, without_waiting

THREADS = {"sqlite": 1, "postgresql": 20}
"""Handlers at once. SQLite answers within microseconds in this very process, so a second thread only takes the
interpreter from the first at each statement: measured, one needs a fifth less for a job than two. PostgreSQL is waited
for."""

Result = TypeVar("Result")
_Work = tuple[Callable[[], Any], asyncio.Future[Any]]


class HandlerThreads:
    """A pool of threads. A change of thread through it takes a quarter of what anyio's takes."""

    def __init__(self, count: int, tries_here: bool = False) -> None:
        self._tries_here = tries_here
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._threads = [Thread(target=self._work, name=f"jobs-{number}", daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    async def run(self, work: Callable[[], Result]) -> Result:
        """What `work` returns or raises, in one of the threads. Who waits may be cancelled; the work goes on."""
        if self._tries_here:
            try:
                with without_waiting():
                    return work()
            except WouldWaitError:
                pass
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.put((work, future))
        return await future

    def stop(self) -> None:
        """Finish what was handed over, then end."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (handed := self._queue.get()) is not None:
            work, future = handed
            loop = future.get_loop()
            try:
                result = work()
            except Exception as error:  # noqa: BLE001  raised again where it is waited for
                loop.call_soon_threadsafe(_settle, future, None, error)
            else:
                loop.call_soon_threadsafe(_settle, future, result, None)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():  # its request is gone
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


@asynccontextmanager
async def run_handlers(app: FastAPI) -> AsyncIterator[None]:
    """Have threads for the handlers of jobs while the application lives, in `app.state.handlers`."""
    database: Database = app.state.database
    handlers = app.state.handlers = HandlerThreads(THREADS[database.backend], tries_here=database.backend == "sqlite")
    try:
        yield
    finally:
        await asyncio.to_thread(handlers.stop)
