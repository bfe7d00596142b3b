"""Where handlers of jobs run: on the event loop itself while they are quick, else in one of few threads."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any, TypeVar

from fastapi import FastAPI

from coordinator.db.database import Database
from coordinator.db.engine import WouldWaitError, without_waiting

THREADS = {"sqlite": 1, "postgresql": 20}
"""Handlers at once. SQLite answers within microseconds in this very process, so a second thread only takes the
interpreter from the first at each statement: measured, one needs a fifth less for a job than two. PostgreSQL is waited
for."""

QUICK_SECONDS = 0.05
"""A kind of handler whose last one took longer has its next one in a thread, so that other requests are answered."""

ATTEMPTS, PAUSE_SECONDS = 20, 0.001
"""What finds somebody else writing looks again so often before it goes to a thread: most write for milliseconds."""

Result = TypeVar("Result")
_Work = tuple[Callable[[], Any], str, asyncio.Future[Any]]


class JobHandlers:
    """Runs handlers.

    To hand one over to a thread and back takes longer than a heartbeat's own work, and the thread then shares the
    interpreter with the loop. So with `is_busy`, which says whether somebody in this process writes, what is quick runs
    on the loop, as soon as nobody does. What would wait there for somebody else's transaction all the same is begun
    anew: nothing was written before.
    """

    def __init__(self, threads: int, is_busy: Callable[[], bool] | None = None) -> None:
        self._is_busy = is_busy
        self._quick: dict[str, bool] = {}
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._threads = [Thread(target=self._work, name=f"jobs-{number}", daemon=True) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    async def run(self, work: Callable[[], Result], kind: str = "") -> Result:
        """What `work` returns or raises. Who waits for a thread may be cancelled; the work goes on."""
        if self._is_busy is not None and self._quick.get(kind, False):
            for _ in range(ATTEMPTS):
                if not self._is_busy():
                    with suppress(WouldWaitError), without_waiting():
                        return self._time(work, kind)
                await asyncio.sleep(PAUSE_SECONDS)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.put((work, kind, future))
        return await future

    def _time(self, work: Callable[[], Result], kind: str) -> Result:
        began = perf_counter()
        try:
            return work()
        finally:
            self._quick[kind] = perf_counter() - began < QUICK_SECONDS

    def stop(self) -> None:
        """Finish what was handed over, then end."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (handed := self._queue.get()) is not None:
            work, kind, future = handed
            loop = future.get_loop()
            try:
                result = self._time(work, kind)
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
    """Let handlers of jobs run while the application lives, by `app.state.handlers`."""
    database: Database = app.state.database
    is_busy = database.is_writing if database.backend == "sqlite" else None
    handlers = app.state.handlers = JobHandlers(THREADS[database.backend], is_busy)
    try:
        yield
    finally:
        await asyncio.to_thread(handlers.stop)
