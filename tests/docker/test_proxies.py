"""The shipped configurations of nginx and Caddy really serve a coordinator, at the root and below a path."""

import re
import threading
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from coordinator.db.database import Database
from coordinator.projects.service import create_project
from tests.support.coordinator_process import Coordinator
from tests.support.databases import SqliteFolder
from tests.support.git import run_git
from tests.support.ports import choose_port
from tests.support.seeds import write_seed
from tests.support.tokens import create_token
from tests.support.volunteers import MiniWorker
from tests.support.web_proxies import SECONDS, run_caddy, run_nginx

pytestmark = pytest.mark.acceptance

MAX_STREAMS = 2


@pytest.mark.parametrize("path", ["", "/swarm"])
def test_a_swarm_behind_nginx_and_caddy(path: str, tmp_path: Path, sqlite_folder: SqliteFolder) -> None:
    """One of the two coordinators that they know is lost."""
    url = sqlite_folder.create_migrated(tmp_path)
    database = Database(url)
    with database.write() as session:
        create_project(session, write_seed(tmp_path / "seed"))
        token = create_token(session, "ada", "test")
    database.close()
    port, lost = choose_port(), choose_port()
    with ExitStack() as stack:
        coordinator = Coordinator(
            url, tmp_path, port, SWARM_PUBLIC_URL=f"http://127.0.0.1:{port}{path}",
            SWARM_LISTENERS_PER_ADDRESS=str(MAX_STREAMS),
        )  # fmt: skip
        stack.callback(coordinator.kill)
        for run in (run_nginx, run_caddy):
            folder = tmp_path / run.__name__
            folder.mkdir()
            with run(folder, choose_port(), path, [lost, port]) as proxied:
                check_swarm(proxied, token, folder, path)


def check_swarm(proxied: httpx.Client, token: str, folder: Path, path: str) -> None:
    base = str(proxied.base_url).rstrip("/")
    page = proxied.get("/projects/tiny")
    assert page.status_code == 200 and page.headers["content-encoding"] == "gzip"
    script = re.search(r'src="([^"]+\.js[^"]*)"', page.text)
    assert script is not None and script[1].startswith(f"{path}/static/")
    assert proxied.get(base.removesuffix(path) + script[1]).status_code == 200
    check_feed(proxied, MiniWorker(proxied, token, folder.name.replace("_", "-")))
    run_git("-c", "http.sslVerify=false", "clone", "-q", f"{base}/git/tiny.git", str(folder / "clone"))
    assert (folder / "clone" / "swarm.toml").exists()
    large = proxied.post("/api/v1/leases", content=b"{" + b" " * 4_500_000 + b"}")
    assert large.status_code == 413 and large.json()["type"].endswith("body-too-large"), "the coordinator's own answer"


def check_feed(proxied: httpx.Client, worker: MiniWorker) -> None:
    """An event comes through at once. An address that a client claims does not count as another one."""
    headers = {"X-Forwarded-For": "203.0.113.7"}
    came = threading.Event()

    def listen() -> None:
        with proxied.stream("GET", "/api/v1/events", headers=headers) as stream:
            opened.release()
            for line in stream.iter_lines():
                if line == "event: lease_claimed":
                    came.set()
                    return

    opened = threading.Semaphore(0)
    listener = threading.Thread(target=listen)
    with ExitStack() as others:
        listener.start()
        for number in range(1, MAX_STREAMS):
            claimed = {"X-Forwarded-For": f"203.0.113.{number}"}
            others.enter_context(proxied.stream("GET", "/api/v1/events", headers=claimed))
        assert opened.acquire(timeout=SECONDS)
        refused = proxied.get("/api/v1/events", headers={"X-Forwarded-For": "203.0.113.99"})
        assert refused.status_code == 429, "all of them are this one machine"
        worker.claim_job()
        assert came.wait(SECONDS), "the proxy holds the feed back"
    listener.join()
