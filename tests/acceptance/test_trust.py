"""Keys do not leak: they are planted wherever keys live, and looked for everywhere else."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import Volunteer
from tests.support.chat_server import PAPER, Body, Response, say, serve_chat
from tests.worker.agents.hostile import LOOTING, experiment

pytestmark = pytest.mark.acceptance

CANARIES = {
    "SWARM_API_KEY": "sk-canary-environment-1",
    "AWS_SECRET_ACCESS_KEY": "canary-environment-2",
    "HF_TOKEN": "canary-environment-3",
}


@contextmanager
def tap(address: str) -> Iterator[tuple[str, list[str]]]:
    """A proxy before the coordinator, and all that passed it but the authorization it was given."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length")}
            told = {k: v for k, v in headers.items() if k.lower() != "authorization"}
            seen.append(f"{self.command} {self.path} {told} {body.decode()}")
            answer = httpx.request(self.command, address + self.path, headers=headers, content=body, timeout=60)
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name.lower() not in ("content-encoding", "transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = forward  # noqa: N815 - the base class wants these names

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()


def plant(home: Path) -> dict[Path, str]:
    """A key wherever keys live: the files of a home folder, with what is in each."""
    places = (
        ".ssh/id_ed25519", ".netrc", ".git-credentials", ".aws/credentials", ".cache/huggingface/token",
        ".config/research-swarm/token",
    )  # fmt: skip
    planted = {home / place: f"canary-home-{number}" for number, place in enumerate(places)}
    for path, text in planted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return planted


def test_keys_and_files_stay_where_they_are(codec: Volunteer, tmp_path: Path) -> None:
    """An obedient model writes code that looks for keys, files and the network, and reports what it found."""
    planted = plant(tmp_path / "home")
    config = Path(codec.environment["XDG_CONFIG_HOME"], "research-swarm", "config.toml")
    config.parent.mkdir(parents=True)
    config.write_text("# canary-config-4\ntokens_per_day = 4000000\n")
    secrets = [*CANARIES.values(), *planted.values(), "canary-config-4", codec.token]

    with socket.create_server(("127.0.0.1", 0)) as listener, tap(codec.url) as (proxy, seen):
        loot = LOOTING.format(canaries=tuple(map(str, planted)), port=listener.getsockname()[1])

        def obey(body: Body) -> Response:
            form = body["response_format"]["json_schema"]["name"]
            if form == "PaperReply":
                return say({**PAPER, "claim": "I found nothing to report."})
            return say(
                {"explanation": "", "edits": [], "files": []}
                if form == "RepairReply"
                else experiment({"codec.py": loot})
            )

        with serve_chat(obey) as server:
            model = ("--agent", "openai", "--model", "obedient", "--base-url", server.url)
            done = replace(codec, url=proxy).work(*model, jobs=2, HOME=str(tmp_path / "home"), **CANARIES)
            prompts = server.prompts()
        (told,) = codec.list_experiments()
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()

    log = told.runs[0].log_tail
    assert told.outcome == "crashed" and "FileNotFoundError" in log and "PYTHONPATH" in log, "the code did look"
    assert "connected" not in log and "wrote" not in log
    assert any("POST" in line and "LOOT" in line for line in seen), "what it printed went to the coordinator"
    assert "LOOT" in prompts
    assert {path: path.read_text() for path in planted} == planted
    kept = "".join(path.read_text(errors="replace") for path in (tmp_path / "workers").rglob("*") if path.is_file())
    assert "LOOT" in kept
    places = {"log": done.stdout + done.stderr, "coordinator": "".join(seen), "prompts": prompts, "kept": kept}
    for name, text in places.items():
        for secret in secrets:
            assert secret not in text, f"{secret} is in the {name}"
