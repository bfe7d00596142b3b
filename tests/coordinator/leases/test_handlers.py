"""Threads that handlers run in."""

import asyncio
from threading import Event, current_thread

import pytest

from coordinator.leases.handlers import HandlerThreads


def test_what_handlers_return_and_raise_arrives() -> None:
    async def ask(handlers: HandlerThreads) -> None:
        names = await asyncio.gather(*(handlers.run(lambda: current_thread().name) for _ in range(20)))
        assert set(names) <= {"jobs-0", "jobs-1"}
        with pytest.raises(KeyError, match="surprise"):
            await handlers.run(lambda: {}["surprise"])
        assert await handlers.run(lambda: 42) == 42  # the thread goes on

    handlers = HandlerThreads(2)
    asyncio.run(ask(handlers))
    handlers.stop()


def test_who_waits_may_go_away() -> None:
    begun, ended = Event(), Event()

    def work() -> None:
        begun.set()
        assert ended.wait(10)

    async def ask(handlers: HandlerThreads) -> int:
        waiting = asyncio.ensure_future(handlers.run(work))
        await asyncio.to_thread(begun.wait, 10)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        ended.set()
        return await handlers.run(lambda: 42)

    handlers = HandlerThreads(1)
    assert asyncio.run(ask(handlers)) == 42
    handlers.stop()


def test_what_was_handed_over_is_done_before_the_end() -> None:
    done: list[int] = []

    async def ask(handlers: HandlerThreads) -> None:
        for number in range(50):
            waiting = asyncio.ensure_future(handlers.run(lambda number=number: done.append(number)))
            await asyncio.sleep(0)
            waiting.cancel()
        await asyncio.to_thread(handlers.stop)

    asyncio.run(ask(HandlerThreads(1)))
    assert done == list(range(50))
