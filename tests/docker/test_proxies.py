"""The shipped configurations of nginx and Caddy really serve a coordinator, at the root and below a path."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from coordinator.accounts.service import create_token
from coordinator.db.database import Database
from coordinator.projects.service import create_project
from tests.support.coordinator_process import Coordinator
from tests.support.databases import SqliteFolder
from tests.support.git import run_git
from tests.support.seeds import write_seed
from tests.support.volunteers import MiniWorker

pytestmark = pytest.mark.acceptance

DOCKER = Path(__file__).parents[2] / "docker"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
SECONDS = 60
MAX_STREAMS = 2


def choose_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def run_program(url: str, command: list[str | Path], **environment: str) -> Iterator[httpx.Client]:
    """A proxy's process while it serves; a client of it, which trusts its certificate."""
    with (
        subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL) as process,
        httpx.Client(base_url=url, verify=False, transport=_Patient(verify=False), timeout=SECONDS) as client,
    ):
        try:
            yield client
        finally:
            process.terminate()


class _Patient(httpx.HTTPTransport):
    """Connects again until the proxy listens."""

    def __init__(self, *, verify: bool) -> None:
        super().__init__(verify=verify, retries=10)  # the pauses double from half a second on


def change(text: str, pattern: str, replacement: str) -> str:
    changed, count = re.subn(pattern, replacement, text)
    assert count, pattern
    return changed


@contextmanager
def run_nginx(folder: Path, port: int, path: str, upstreams: list[int]) -> Iterator[httpx.Client]:
    """The example, with a certificate of its own, other ports, and its blocks where it says they go below a path."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=swarm.example.org", "-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    text = (DOCKER / "nginx.conf").read_text()
    text = change(text, r"/etc/letsencrypt/live/swarm\.example\.org", str(folder))
    text = change(text, r"listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    text = change(text, r"listen 80", f"listen 127.0.0.1:{choose_port()}")
    first, second = (f"server 127.0.0.1:{upstream} max_fails=1 fail_timeout=5s;" for upstream in upstreams)
    text = change(text, r"server 127\.0\.0\.1:8000 .*;", first)
    text = change(text, r"# server 127\.0\.0\.1:8001 .*;", second)
    text = change(text, r"location / ", f"location {path}/ ")
    text = change(text, r"location = /api", f"location = {path}/api")
    (folder / "swarm.conf").write_text(text)
    user = "" if os.getuid() else "user root; "  # else its workers are another user, who may not enter the folder
    (folder / "nginx.conf").write_text(
        f"{user}daemon off; pid {folder}/nginx.pid; error_log stderr warn; worker_processes 1; events {{}}\n"
        f"http {{ access_log off; include {folder}/swarm.conf;\n"
        + "".join(
            f"{what}_temp_path {folder}/{what};\n" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + "}\n"
    )
    command: list[str | Path] = [str(NGINX), "-e", "stderr", "-c", folder / "nginx.conf"]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert tested.returncode == 0 and "warn" not in tested.stderr, tested.stderr
    with run_program(f"https://127.0.0.1:{port}{path}", command) as client:
        yield client


@contextmanager
def run_caddy(folder: Path, port: int, path: str, upstreams: list[int]) -> Iterator[httpx.Client]:
    """The file as it is, but for the door of its administrator; below a path it needs no change."""
    text = change((DOCKER / "Caddyfile").read_text(), r"(?m)^\{\n", "{\n\tadmin off\n")
    (folder / "Caddyfile").write_text(text)
    command = [
        Path(sys.executable).with_name("caddy"),
        "run",
        "--config",
        folder / "Caddyfile",
        "--adapter",
        "caddyfile",
    ]
    with run_program(
        f"http://127.0.0.1:{port}{path}", command,
        SITE=f"http://127.0.0.1:{port}", UPSTREAMS=" ".join(f"127.0.0.1:{upstream}" for upstream in upstreams),
        XDG_DATA_HOME=str(folder), XDG_CONFIG_HOME=str(folder), HOME=str(folder),
    ) as client:  # fmt: skip
        yield client


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
