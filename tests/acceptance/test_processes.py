"""`serve --processes 2` on PostgreSQL: requests of one job and the live feed may meet either process."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Semaphore

import httpx
import psutil
import pytest

from coordinator.db.database import Database
from coordinator.projects.service import create_project
from shared.leases import Phase
from shared.protocol import API_PREFIX
from tests.support.coordinator_process import wait_for_port
from tests.support.databases import PostgresServer
from tests.support.seeds import write_seed
from tests.support.tokens import create_token
from tests.support.volunteers import MiniWorker

pytestmark = pytest.mark.acceptance

COMMAND = Path(sys.executable).with_name("swarm-coordinator")
JOBS = 6
REQUESTS = 100


class FreshConnections(httpx.BaseTransport):
    """Opens a connection for each request, so that either process may get it."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with httpx.HTTPTransport() as transport:
            response = transport.handle_request(request)
            response.read()
            return response


def listen(url: str, has_all: Semaphore, ended: list[int]) -> None:
    """Read the feed to its end, and note how many runs it told of; raises if the connection is cut off."""
    runs = 0
    with httpx.stream("GET", f"{url}{API_PREFIX}/events", params={"since": 0}, timeout=120) as stream:
        for line in stream.iter_lines():
            if line == "event: run_stored":
                runs += 1
                if runs == JOBS:
                    has_all.release()
    ended.append(runs)


def write_token(folder: Path) -> Path:
    """The file of the token that metrics want."""
    (folder / "token").write_text("metrics-token-of-a-test")
    return folder / "token"


@contextmanager
def serve(
    database_url: str, folder: Path, stop: signal.Signals = signal.SIGTERM, status: int = 0
) -> Iterator[tuple[str, int]]:
    """A coordinator of two processes: its address and process number. `stop` ends it with `status`."""
    log = folder / "coordinator.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [COMMAND, "serve", "--port", "0", "--processes", "2"],
            env=os.environ | {"SWARM_DATABASE_URL": database_url, "SWARM_METRICS_TOKEN_FILE": str(write_token(folder))},
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{wait_for_port(lambda: process.poll() is None, log)}", process.pid
    finally:
        process.send_signal(stop)
        assert process.wait(60) == status, log.read_text()


def test_two_processes_are_one_coordinator(postgres: PostgresServer, tmp_path: Path) -> None:
    """Also to those who listen: each stream has all events, and a stop ends it whole."""
    database_url = postgres.create_migrated()
    database = Database(database_url)
    with database.write() as session:
        create_project(session, write_seed(tmp_path / "seed"))
        token = create_token(session, "ada", "test")
    database.close()
    with serve(database_url, tmp_path) as (url, pid):
        has_all, ended = Semaphore(0), list[int]()
        listeners = [threading.Thread(target=listen, args=(url, has_all, ended)) for _ in range(8)]
        for listener in listeners:
            listener.start()
        with httpx.Client(base_url=url, transport=FreshConnections(), timeout=120) as http:
            worker = MiniWorker(http, token)
            worker.measure_root()
            for number in range(JOBS - 1):
                lease, _ = worker.experiment(f"DEPTH = {number + 10}\n")
                assert worker.beat(lease, Phase.TRAINING).status_code == 410, "either process knows that it has ended"
            assert len(http.get(f"{API_PREFIX}/runs", params={"project": "tiny"}).json()["items"]) == JOBS
            servers = [one for one in psutil.Process(pid).children() if "spawn_main" in " ".join(one.cmdline())]
            assert len(servers) == 2
            before = [one.cpu_times().user for one in servers]
            for _ in range(REQUESTS):
                assert http.get(f"{API_PREFIX}/projects").status_code == 200
            after = [one.cpu_times().user for one in servers]
            assert all(end > start for start, end in zip(before, after, strict=True)), "only one of them answers"
            for _ in range(4):
                metrics = http.get("/metrics", auth=("any", "metrics-token-of-a-test")).text
                counted = f'swarm_http_request_seconds_count{{method="GET",route="{API_PREFIX}/projects",status="2xx"}}'
                assert f"{counted} {REQUESTS}.0\n" in metrics, "requests of both count together, whoever is asked"
        for _ in listeners:
            assert has_all.acquire(timeout=120)
    for listener in listeners:
        listener.join(60)
    assert ended == [JOBS] * len(listeners)


def test_ctrl_c_ends_several_processes_as_it_ends_one(postgres: PostgresServer, tmp_path: Path) -> None:
    with serve(postgres.create_migrated(), tmp_path, signal.SIGINT, 130):
        pass


def test_sqlite_has_one_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, "serve", "--port", "0", "--processes", "2"],
        env=os.environ | {"SWARM_DATABASE_URL": f"sqlite:///{tmp_path}/coordinator.db"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and "--processes needs PostgreSQL" in done.stderr and "Traceback" not in done.stderr
