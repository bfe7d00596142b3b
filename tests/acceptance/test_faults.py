"""Faults, for real: processes are killed, connections cut, a disk is full. A ledger says what must be there after."""

import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from coordinator.accounts.service import create_token
from coordinator.db import Database
from coordinator.projects.service import create_project
from tests.support.coordinator_process import Coordinator
from tests.support.databases import PostgresServer, run_postgres
from tests.support.ledger import Insistent, Ledger
from tests.support.proxy import BadProxy, Mischief, serve_proxy
from tests.support.seeds import write_seed
from tests.support.volunteers import MiniWorker

pytestmark = pytest.mark.acceptance

JOBS = 8
WORKERS = 3


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """A database with a project, opened by the test beside the coordinator."""
    database = Database(database_url)
    with database.write() as session:
        create_project(session, write_seed(tmp_path / "seed"))
    yield database
    database.close()


@pytest.fixture
def coordinator(database: Database, database_url: str, tmp_path: Path) -> Iterator[Coordinator]:
    coordinator = Coordinator(database_url, tmp_path)
    yield coordinator
    coordinator.kill()


def make_workers(database: Database, address: tuple[str, int]) -> list[MiniWorker]:
    """Workers that send everything again until it is answered, each request on a connection of its own."""
    workers = []
    for number in range(WORKERS):
        with database.write() as session:
            token = create_token(session, f"volunteer-{number}", "test")
        limits = httpx.Limits(max_keepalive_connections=0)
        transport = Insistent(httpx.HTTPTransport(limits=limits))
        client = httpx.Client(transport=transport, base_url=f"http://{address[0]}:{address[1]}", timeout=20)
        workers.append(MiniWorker(client, token, f"w{number}"))
    return workers


def work(ledger: Ledger, workers: list[MiniWorker], meanwhile: Callable[[], None]) -> None:
    """Let each worker do its jobs while something happens to the swarm."""
    errors: list[BaseException] = []

    def do_jobs(worker: MiniWorker) -> None:
        try:
            for number in range(JOBS):
                ledger.do_job(worker, number)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=do_jobs, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(ledger.acknowledged) == JOBS * WORKERS
    for worker in workers:
        worker.http.close()


def wait_for_results(ledger: Ledger, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(ledger.acknowledged) < count:
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.005)


def test_a_coordinator_that_is_killed_loses_nothing(coordinator: Coordinator, database: Database) -> None:
    ledger = Ledger()

    def kill_again_and_again() -> None:
        for results in (4, 10, 16):
            wait_for_results(ledger, results)
            coordinator.kill()
            coordinator.start()

    work(ledger, make_workers(database, coordinator.address), kill_again_and_again)
    ledger.check(database)


def test_lost_answers_and_repeated_requests_count_once(coordinator: Coordinator, database: Database) -> None:
    ledger = Ledger()
    with serve_proxy(BadProxy(coordinator.address)) as proxy:
        port = int(proxy.url.rsplit(":", 1)[1])
        work(ledger, make_workers(database, ("127.0.0.1", port)), lambda: None)
        assert all(proxy.done[mischief] > 5 for mischief in Mischief)
    ledger.check(database)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_full_disk_refuses_and_goes_on_when_there_is_room(
    coordinator: Coordinator, database: Database, tmp_path: Path
) -> None:
    """No file of the coordinator may grow any more: SQLite sees failing writes, as on a full disk."""
    ledger = Ledger()
    seen: list[int] = []

    def fill_and_free() -> None:
        wait_for_results(ledger, 5)
        unlimited = resource.prlimit(coordinator.popen.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(coordinator.popen.pid, resource.RLIMIT_FSIZE, (4096, unlimited[1]))
        time.sleep(1)
        before = len(ledger.acknowledged)
        time.sleep(1)
        assert len(ledger.acknowledged) == before, "nothing is acknowledged that cannot be written"
        with httpx.Client(base_url=f"http://127.0.0.1:{coordinator.address[1]}") as http:
            seen.append(http.get("/api/v1/projects").status_code)
        resource.prlimit(coordinator.popen.pid, resource.RLIMIT_FSIZE, unlimited)

    work(ledger, make_workers(database, coordinator.address), fill_and_free)
    assert seen == [200], "reading goes on"
    ledger.check(database)


def test_postgresql_killed_under_load_loses_nothing(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    ledger = Ledger()
    with run_postgres(tmp_path_factory.mktemp("killed")) as server:
        url = server.create_migrated()
        database = Database(url)
        with database.write() as session:
            create_project(session, write_seed(tmp_path / "seed"))
        coordinator = Coordinator(url, tmp_path)
        try:
            work(ledger, make_workers(database, coordinator.address), lambda: kill_postgres(server, ledger))
            ledger.check(database)
        finally:
            coordinator.kill()
            database.close()


def kill_postgres(server: PostgresServer, ledger: Ledger) -> None:
    """Kill every process of the server as a power cut would, and start it again."""
    wait_for_results(ledger, 8)
    server.crash()
    time.sleep(0.5)
    server.restart()
