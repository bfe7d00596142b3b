"""Real worker processes with agents that reason, against a real coordinator, on a project that really trains."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.experiments import ExperimentDetail
from swarm import Client
from tests.support.chat_server import PAPER, Body, Response, refuse, say, serve_chat
from tests.support.tiny_project import PACKAGE, pack_text, serve_folder, write_tiny_seed

BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 240

pytestmark = pytest.mark.acceptance


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SWARM_", "OPENAI_"))}
    return kept | {
        "SWARM_DATABASE_URL": f"sqlite:///{tmp_path}/coordinator.db",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "NO_COLOR": "1",
    }


def command(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([BIN / arguments[0], *arguments[1:]], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def url(tmp_path: Path, environment: dict[str, str]) -> Iterator[str]:
    """A coordinator's process with a project that trains for a second."""
    package = pack_text()
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / PACKAGE).write_bytes(package)
    log = tmp_path / "coordinator.log"
    with serve_folder(tmp_path / "served") as address, log.open("w") as output:
        seed = write_tiny_seed(tmp_path / "seed", address, package)
        command(environment, "swarm-coordinator", "create-project", str(seed))
        server = subprocess.Popen(
            [BIN / "swarm-coordinator", "serve", "--port", "0"], env=environment, stdout=output, stderr=output
        )
        try:
            deadline = time.monotonic() + 60
            while not (found := re.search(r"Coordinator at (\S+)", log.read_text())):
                assert time.monotonic() < deadline and server.poll() is None, log.read_text()
                time.sleep(0.1)
            yield found.group(1)
        finally:
            server.kill()
            server.wait()


Work = Callable[..., tuple[subprocess.CompletedProcess[str], list[ExperimentDetail]]]


@pytest.fixture
def work(url: str, environment: dict[str, str], tmp_path: Path) -> Work:
    """Let a worker measure the seed and make one experiment; how it ended, and the experiments."""

    def run(*arguments: str, **more: str) -> tuple[subprocess.CompletedProcess[str], list[ExperimentDetail]]:
        token = command(environment, "swarm-coordinator", "create-token", "ada")
        done = subprocess.run(
            [
                BIN / "swarm-worker", "--device", "cpu", "--cores", "1", "--plain", "--max-jobs", "2",
                "--coordinator", url, "--data-dir", str(tmp_path / "workers"), *arguments,
            ],
            env={**environment, "SWARM_TOKEN": token, **more}, capture_output=True, text=True, timeout=PATIENCE_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert token not in done.stdout + done.stderr
        with Client(url) as client:
            (project,) = client.list_projects()
            return done, [client.get_experiment(row.id) for row in client.list_experiments(project.name)]

    return run


class Clumsy:
    """A model that is busy at first, whose experiment crashes, and that mends it when it sees the crash."""

    def __init__(self) -> None:
        self.crash = ""

    def __call__(self, body: Body) -> Response:
        form = body["response_format"]["json_schema"]["name"]
        prompt = body["messages"][1]["content"]
        if form == "Paper":
            return say(PAPER)
        if form == "Repair":
            self.crash = prompt
            edit = {"file": "train.py", "search": "WIDTH = 32 // 0", "replace": "WIDTH = 32"}
            return say({"explanation": "A division by zero.", "edits": [edit], "files": []})
        edit = {"file": "train.py", "search": "\nWIDTH = 64", "replace": "\nWIDTH = 32 // 0"}
        words = {"title": "Half the width", "hypothesis": "Cheaper steps.", "axis": "WIDTH", "direction": "down"}
        rest = {"value": "32", "predicted_effect": -0.1, "refuted_by": "No change.", "edits": [edit], "files": []}
        return say(words | rest)


def test_a_language_model_proposes_mends_and_writes_the_paper(work: Work) -> None:
    model = Clumsy()
    with serve_chat(model) as server:
        server.script = [refuse(429, Retry_After="1")]
        done, (experiment,) = work(
            "--agent", "openai", "--model", "clumsy", "--base-url", server.url, OPENAI_API_KEY="sk-canary-31415"
        )
    assert experiment.title == "Half the width"
    assert experiment.outcome == "ok"
    assert "+WIDTH = 32" in experiment.diff and "// 0" not in experiment.diff
    assert experiment.finding is not None and experiment.finding.claim == PAPER["claim"]
    assert "ZeroDivisionError" in model.crash
    assert "trying again in 1 s" in done.stderr and "trying a repair" in done.stderr
    assert set(server.keys) == {"Bearer sk-canary-31415"}
    assert "sk-canary" not in done.stdout + done.stderr + server.prompts() + json.dumps(
        experiment.model_dump(mode="json")
    )


def test_without_its_model_a_worker_searches(work: Work) -> None:
    done, (experiment,) = work("--agent", "openai", "--model", "m", "--base-url", "http://127.0.0.1:1/v1")
    assert "the search agent proposes instead" in done.stderr
    assert "->" in experiment.title and experiment.finding is not None and experiment.finding.agent == "search"
