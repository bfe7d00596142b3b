"""Real faults: killed processes, cut connections, a full disk. A ledger says which results must be stored."""

import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from coordinator.db.database import Database
from coordinator.projects.service import create_project
from tests.support.coordinator_process import Coordinator
from tests.support.databases import PostgresServer, count_rows, run_postgres
from tests.support.ledger import Ledger, RetryingTransport
from tests.support.messages import make_result
from tests.support.proxy import Fault, FaultyProxy, serve_proxy
from tests.support.seeds import write_seed
from tests.support.tokens import create_token
from tests.support.volunteers import MiniWorker

pytestmark = pytest.mark.acceptance

JOBS = 8
TIMEOUT_SECONDS = 120
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


def make_transports() -> list[RetryingTransport]:
    """A transport for each worker, which uses a new connection for each request."""
    return [
        RetryingTransport(httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))) for _ in range(WORKERS)
    ]


def make_workers(
    database: Database, address: tuple[str, int], transports: list[RetryingTransport] | None = None
) -> list[MiniWorker]:
    workers = []
    for number, transport in enumerate(transports or make_transports()):
        with database.write() as session:
            token = create_token(session, f"volunteer-{number}", "test")
        client = httpx.Client(
            transport=transport, base_url=f"http://{address[0]}:{address[1]}", timeout=TIMEOUT_SECONDS
        )
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
    wait_until(lambda: len(ledger.acknowledged) >= count)


def wait_for_refusals(transports: list[RetryingTransport], count: int) -> None:
    """Wait for so many requests that fail from now on."""
    before = sum(transport.repeated for transport in transports)
    wait_until(lambda: sum(transport.repeated for transport in transports) >= before + count)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.005)


def test_a_coordinator_that_is_killed_loses_nothing(coordinator: Coordinator, database: Database) -> None:
    ledger = Ledger()

    def kill_again_and_again() -> None:
        for results in (4, 12):
            wait_for_results(ledger, results)
            coordinator.kill()
            coordinator.start()

    work(ledger, make_workers(database, coordinator.address), kill_again_and_again)
    ledger.check(database)


SLOW_SQLITE = """
create trigger slow before insert on findings begin
    select (with recursive numbers (n) as (select 1 union all select n + 1 from numbers) select max(n) from numbers);
end
"""
SLOW_POSTGRESQL = """
create function sleep() returns trigger language plpgsql as $$ begin perform pg_sleep(600); return new; end $$;
create trigger slow before insert on findings for each row execute function sleep()
"""


def is_writing(database: Database) -> bool:
    """Whether somebody is in the middle of the slow insert."""
    if database.backend == "postgresql":
        with database.engine.connect() as connection:
            return bool(connection.scalar(text("select count(*) from pg_stat_activity where wait_event = 'PgSleep'")))
    with closing(sqlite3.connect(str(database.url.database), timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("begin immediate")
        except sqlite3.OperationalError:
            return True
        return False


def test_a_coordinator_that_is_killed_in_the_middle_of_a_result(coordinator: Coordinator, database: Database) -> None:
    """The commit and the experiment are written, the finding is not: a trigger takes for ever."""
    ledger, (worker, *others) = Ledger(), make_workers(database, coordinator.address)
    ledger.do_job(worker, 0)
    lease = worker.claim_job()
    upload = make_result(lease, worker.files_of(lease), {"train.py": "DEPTH = 5\n"})
    change_schema(database, SLOW_SQLITE if database.backend == "sqlite" else SLOW_POSTGRESQL)
    before = count_parts(database)
    ledger.record_sent(upload.model_dump_json())
    with ThreadPoolExecutor(max_workers=1) as pool:
        delivering = pool.submit(worker.deliver, lease, upload)
        wait_until(lambda: is_writing(database))
        coordinator.kill()
        end_sleeping(database)
        assert count_parts(database) == before, "half a result is none"
        change_schema(database, "drop trigger slow" + (" on findings" if database.backend == "postgresql" else ""))
        coordinator.start()
        response = delivering.result(timeout=TIMEOUT_SECONDS)
    assert response.status_code == 201, "the first attempt left nothing"
    ledger.record_acknowledged(response.content)
    ledger.check(database)
    for each in (worker, *others):
        each.http.close()


def count_parts(database: Database) -> dict[str, int]:
    """Rows of what a result consists of. Rows of others may come meanwhile: progress is counted in the background."""
    counts = count_rows(database)
    return {table: counts[table] for table in ("commits", "git_objects", "experiments", "runs", "findings")}


def change_schema(database: Database, statement: str) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql(statement)


def end_sleeping(database: Database) -> None:
    """PostgreSQL notices that its client is gone only when the statement ends."""
    if database.backend == "postgresql":
        end = "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'"
        change_schema(database, end)
        wait_until(lambda: not is_writing(database))


def test_lost_answers_and_repeated_requests_count_once(coordinator: Coordinator, database: Database) -> None:
    ledger = Ledger()
    with serve_proxy(FaultyProxy(coordinator.address)) as proxy:
        port = int(proxy.url.rsplit(":", 1)[1])
        work(ledger, make_workers(database, ("127.0.0.1", port)), lambda: None)
        assert all(proxy.done[fault] > 5 for fault in Fault)
    ledger.check(database)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_full_disk_refuses_and_goes_on_when_there_is_room(coordinator: Coordinator, database: Database) -> None:
    """No file of the coordinator may grow any more: SQLite sees failing writes, as on a full disk."""
    ledger, transports = Ledger(), make_transports()
    answers: list[int] = []

    def fill_and_free() -> None:
        wait_for_results(ledger, 5)
        unlimited = resource.prlimit(coordinator.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(coordinator.pid, resource.RLIMIT_FSIZE, (4096, unlimited[1]))
        wait_for_refusals(transports, 1)
        stored = count_rows(database)
        wait_for_refusals(transports, 5)
        assert count_rows(database) == stored, "what is refused leaves nothing"
        with httpx.Client(base_url=f"http://127.0.0.1:{coordinator.address[1]}", timeout=60) as http:
            answers.append(http.get("/api/v1/projects").status_code)
        resource.prlimit(coordinator.pid, resource.RLIMIT_FSIZE, unlimited)

    work(ledger, make_workers(database, coordinator.address, transports), fill_and_free)
    assert answers == [200], "reading goes on"
    ledger.check(database)


def test_postgresql_killed_under_load_loses_nothing(tmp_path: Path) -> None:
    ledger, transports = Ledger(), make_transports()
    with run_postgres() as server:
        url = server.create_migrated()
        database = Database(url)
        with database.write() as session:
            create_project(session, write_seed(tmp_path / "seed"))
        coordinator = Coordinator(url, tmp_path)
        try:
            workers = make_workers(database, coordinator.address, transports)
            work(ledger, workers, lambda: kill_postgres(server, database, ledger, transports))
            ledger.check(database)
        finally:
            coordinator.kill()
            database.close()


def kill_postgres(
    server: PostgresServer, database: Database, ledger: Ledger, transports: list[RetryingTransport]
) -> None:
    """Kill every process of the server as a power cut would, and start it again."""
    wait_for_results(ledger, 8)
    server.crash()
    wait_for_refusals(transports, 1)
    server.restart()
    database.engine.dispose()  # whose connections ended with the server
