"""What is done again and again beside requests."""

import asyncio
import threading

from structlog.testing import capture_logs

from coordinator.background import repeat


def test_it_is_done_again_and_again_and_waited_for_at_the_end() -> None:
    calls: list[str] = []
    third, may_end = threading.Event(), threading.Event()

    def work() -> None:
        calls.append("begun")
        if len(calls) == 3:
            third.set()
            assert may_end.wait(60)
            calls.append("ended")

    async def live() -> None:
        async with repeat("work", 0.001, work):
            assert await asyncio.to_thread(third.wait, 60)
            asyncio.get_running_loop().call_later(0.05, may_end.set)

    asyncio.run(live())
    assert calls == ["begun", "begun", "begun", "ended"]


def test_a_mistake_is_told_at_once() -> None:
    def work() -> None:
        raise ValueError("what nobody thought of")

    async def live() -> None:
        async with repeat("work", 0.001, work):
            async with asyncio.timeout(60):
                while not told:
                    await asyncio.sleep(0.005)

    with capture_logs() as told:
        asyncio.run(live())
    assert told[0]["task"] == "work" and isinstance(told[0]["exc_info"], ValueError)


def test_the_end_does_not_wait_for_the_next_time() -> None:
    calls: list[str] = []

    async def live() -> None:
        async with repeat("work", 60, lambda: calls.append("called")):
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(live(), 30))
    assert calls == []
