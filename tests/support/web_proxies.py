"""The shipped configurations of nginx and Caddy, run on loopback as they are but for ports and certificates."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.ports import choose_port

DOCKER = Path(__file__).parents[2] / "docker"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
SECONDS = 60


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
