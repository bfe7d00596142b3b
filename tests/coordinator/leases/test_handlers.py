"""Where handlers run."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread, current_thread, main_thread

import pytest
from sqlalchemy import insert

from coordinator.accounts.service import create_token
from coordinator.db.database import Database
from coordinator.db.statements import Prepared
from coordinator.leases import handlers as handlers_module
from coordinator.leases.handlers import JobHandlers
from coordinator.models import Volunteer, table_of
from shared.protocol import now
from tests.support.databases import SqliteFolder


def test_what_handlers_return_and_raise_arrives() -> None:
    async def ask(handlers: JobHandlers) -> None:
        names = await asyncio.gather(*(handlers.run(lambda: current_thread().name) for _ in range(20)))
        assert set(names) <= {"jobs-0", "jobs-1"}
        with pytest.raises(KeyError, match="surprise"):
            await handlers.run(lambda: {}["surprise"])
        assert await handlers.run(lambda: 42) == 42  # the thread goes on

    handlers = JobHandlers(2)
    asyncio.run(ask(handlers))
    handlers.stop()


def test_who_waits_may_go_away() -> None:
    begun, ended = Event(), Event()

    def work() -> None:
        begun.set()
        assert ended.wait(10)

    async def ask(handlers: JobHandlers) -> int:
        waiting = asyncio.ensure_future(handlers.run(work))
        await asyncio.to_thread(begun.wait, 10)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        ended.set()
        return await handlers.run(lambda: 42)

    handlers = JobHandlers(1)
    assert asyncio.run(ask(handlers)) == 42
    handlers.stop()


def test_what_was_handed_over_is_done_before_the_end() -> None:
    done: list[int] = []

    async def ask(handlers: JobHandlers) -> None:
        for number in range(50):
            waiting = asyncio.ensure_future(handlers.run(lambda number=number: done.append(number)))
            await asyncio.sleep(0)
            waiting.cancel()
        await asyncio.to_thread(handlers.stop)

    asyncio.run(ask(JobHandlers(1)))
    assert done == list(range(50))


def where() -> str:
    return "loop" if current_thread() is main_thread() else "thread"


def test_what_is_quick_runs_on_the_loop_and_what_was_slow_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers_module, "QUICK_SECONDS", 0.4)  # even on a busy machine

    def dawdle() -> str:
        time.sleep(0.6)
        return where()

    async def ask(handlers: JobHandlers) -> None:
        assert [await handlers.run(where, "a") for _ in range(3)] == ["thread", "loop", "loop"]
        assert await handlers.run(where, "b") == "thread"  # nobody knows yet how long it takes
        assert [await handlers.run(work, "a") for work in (dawdle, where, where)] == ["loop", "thread", "loop"]
        with pytest.raises(KeyError, match="surprise"):
            await handlers.run(lambda: {}["surprise"], "a")

    handlers = JobHandlers(1, is_busy=lambda: False)
    asyncio.run(ask(handlers))
    handlers.stop()


ADD = Prepared(insert(table_of(Volunteer)))


@pytest.fixture
def sqlite(sqlite_folder: SqliteFolder, tmp_path: Path) -> Database:
    return Database(sqlite_folder.create_migrated(tmp_path))


def add_volunteer(database: Database, name: str) -> str:
    with database.look_and_write() as (_read, write):
        ADD.run(write, {"name": name, "role": "volunteer", "created_at": now()})
    return where()


def write_elsewhere_in_this_process(database: Database, begun: Event, end: Event) -> None:
    with database.write() as session:
        create_token(session, "writer", "test")
        begun.set()
        assert end.wait(20)


def write_in_another_connection(database: Database, begun: Event, end: Event) -> None:
    other = sqlite3.connect(str(database.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun.set()
    assert end.wait(20)
    other.execute("COMMIT")
    other.close()


@pytest.mark.parametrize("write", [write_elsewhere_in_this_process, write_in_another_connection])
def test_who_would_wait_for_another_writer_waits_in_a_thread(
    sqlite: Database, write: Callable[[Database, Event, Event], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers_module, "QUICK_SECONDS", 60)  # even on a busy machine
    begun, end = Event(), Event()

    async def ask(handlers: JobHandlers) -> None:
        for name, place in (("ada", "thread"), ("bob", "loop")):
            assert await handlers.run(lambda name=name: add_volunteer(sqlite, name)) == place
        other = Thread(target=write, args=(sqlite, begun, end))
        other.start()
        assert await asyncio.to_thread(begun.wait, 20)
        asked = time.monotonic()
        waiting = asyncio.ensure_future(handlers.run(lambda: add_volunteer(sqlite, "cleo")))
        await asyncio.sleep(0.5)
        assert time.monotonic() - asked < 10  # the loop went on
        assert not waiting.done()
        end.set()
        assert await waiting == "thread"
        other.join()
        assert await handlers.run(lambda: add_volunteer(sqlite, "dan")) == "loop"

    handlers = JobHandlers(1, sqlite.is_writing)
    asyncio.run(ask(handlers))
    handlers.stop()
    with sqlite.read() as session:
        assert {"ada", "bob", "cleo", "dan"} <= {one.name for one in session.query(Volunteer)}
    assert sqlite.count_held() == 0
    sqlite.close()


def test_who_finds_somebody_writing_for_a_moment_looks_again(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers_module, "QUICK_SECONDS", 60)  # even on a busy machine
    monkeypatch.setattr(handlers_module, "ATTEMPTS", 20_000)
    begun, end = Event(), Event()

    async def ask(handlers: JobHandlers) -> None:
        assert await handlers.run(lambda: add_volunteer(sqlite, "ada")) == "thread"
        for write in (write_elsewhere_in_this_process, write_in_another_connection):
            begun.clear()
            end.clear()
            other = Thread(target=write, args=(sqlite, begun, end))
            other.start()
            assert await asyncio.to_thread(begun.wait, 20)
            waiting = asyncio.ensure_future(handlers.run(lambda write=write: add_volunteer(sqlite, write.__name__)))
            await asyncio.sleep(0)
            end.set()
            assert await waiting == "loop"
            other.join()

    handlers = JobHandlers(1, sqlite.is_writing)
    asyncio.run(ask(handlers))
    handlers.stop()
    sqlite.close()
