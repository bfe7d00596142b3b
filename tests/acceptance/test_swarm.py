"""A real coordinator and two real workers of unequal speed, as processes, on the CPU seed with a shortened budget."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shared.commits import CommitWords, build_blob, build_commit, build_trees
from swarm import Client

SEED = Path(__file__).parents[2] / "seed"
BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 240

pytestmark = pytest.mark.acceptance


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The CPU seed beside its harness, with two seconds of training instead of twenty."""
    shutil.copytree(SEED / "harness", tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(SEED / "gpt-cpu", tmp_path / "gpt-cpu", ignore=shutil.ignore_patterns("__pycache__"))
    contract = tmp_path / "gpt-cpu" / "swarm.toml"
    text, changed = re.subn(r"(?m)^training_seconds = .*$", "training_seconds = 2", contract.read_text())
    assert changed == 1
    contract.write_text(text)
    return tmp_path


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "SWARM_DATABASE_URL": f"sqlite:///{folder}/coordinator.db", "NO_COLOR": "1"}


def command(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([BIN / arguments[0], *arguments[1:]], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Process:
    """A program of ours with its output in a file."""

    def __init__(self, log: Path, environment: dict[str, str], *arguments: str) -> None:
        self.log = log
        with log.open("w") as output:
            self.popen = subprocess.Popen(
                [BIN / arguments[0], *arguments[1:]], env=environment, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def said(self) -> str:
        return self.log.read_text()

    def end(self, *signals: signal.Signals) -> int:
        for number in signals:
            self.popen.send_signal(number)
            time.sleep(0.5)
        return self.popen.wait(60)


@pytest.fixture
def coordinator(folder: Path, environment: dict[str, str]) -> Iterator[tuple[str, Process]]:
    """Its address, and the process."""
    command(environment, "swarm-coordinator", "create-project", str(folder / "gpt-cpu"))
    process = Process(folder / "coordinator.log", environment, "swarm-coordinator", "serve", "--port", "0")
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"Coordinator at (\S+)", process.said())):
            assert time.monotonic() < deadline and process.popen.poll() is None, process.said()
            time.sleep(0.1)
        yield found.group(1), process
    finally:
        process.popen.kill()
        process.popen.wait()


@pytest.fixture
def workers(folder: Path, environment: dict[str, str], coordinator: tuple[str, Process]) -> Iterator[list[Process]]:
    """A worker with two cores, and one with a single core, of two volunteers."""
    started = []
    for name, cores in (("quick", "2"), ("slow", "1")):
        token_file = folder / f"{name}.token"
        token_file.write_text(command(environment, "swarm-coordinator", "create-token", name))
        started.append(
            Process(
                folder / f"{name}.log", {**environment, "SWARM_TOKEN_FILE": str(token_file)},
                "swarm-worker", "--device", "cpu", "--cores", cores, "--name", name, "--plain",
                "--coordinator", coordinator[0], "--data-dir", str(folder / "workers"),
            )
        )  # fmt: skip
    try:
        yield started
    finally:
        for process in started:
            process.popen.kill()
            process.popen.wait()


def wait_until_each_has_experiments(client: Client, workers: list[Process], count: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        experiments = client.list_experiments("gpt-cpu")
        by_worker = [sum(row.worker.startswith(name) for row in experiments) for name in ("quick", "slow")]
        if min(by_worker) >= count:
            return
        for worker in workers:
            assert worker.popen.poll() is None, worker.said()
        assert time.monotonic() < deadline, "\n".join(worker.said() for worker in workers)
        time.sleep(0.5)


def test_two_unequal_workers_do_research(coordinator: tuple[str, Process], workers: list[Process]) -> None:
    url, server = coordinator
    with Client(url) as client, httpx.Client(base_url=url, timeout=60) as http:
        wait_until_each_has_experiments(client, workers, 1)
        for worker in workers:
            assert worker.end(signal.SIGTERM, signal.SIGTERM) in (0, 130, -signal.SIGTERM), worker.said()
        experiments = client.list_experiments("gpt-cpu")
        check_results(client)
        for experiment in experiments:
            check_commit(http, experiment.sha)
            check_page(http, experiment.id, experiment.title)
        assert "val_bpb" in http.get("/").text
        assert client.list_live_leases("gpt-cpu") == [], "what was not finished was given back"
    assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM), server.said()
    for process in (server, *workers):
        assert "Traceback" not in process.said()


def check_results(client: Client) -> None:
    runs = client.list_runs("gpt-cpu", limit=200)
    assert {run.outcome for run in runs} <= {"ok", "crashed", "timeout", "invalid"}
    assert {run.sandbox for run in runs} == {"bubblewrap"}
    assert len({run.hardware_class for run in runs}) == 2, "unequal machines are not compared"
    root = client.list_projects()[0].root_sha
    calibrated = {run.worker for run in runs if run.commit_sha == root and run.outcome == "ok"}
    assert len(calibrated) == 2, "each worker measured the seed before it changed it"
    for run in runs:
        if run.metric is not None:
            assert 1.0 < run.metric < 8.0 and run.steps > 0 and run.curve[-1].step == run.steps
            assert run.seconds.training < 2 + 1.5 + 2  # a busy machine hears of the end late
    for experiment in client.list_experiments("gpt-cpu"):
        detail = client.get_experiment(experiment.id)
        assert detail.finding is not None and detail.finding.claim
        assert detail.diff.startswith("--- a/train.py") and detail.hypothesis and detail.why


def check_commit(http: httpx.Client, sha: str) -> None:
    """The files that the coordinator serves are the tree that the sha names."""
    files = http.get(f"/api/v1/projects/gpt-cpu/commits/{sha}/files").json()
    tree_sha, _ = build_trees({path: build_blob(text).sha for path, text in files["files"].items()})
    parent = http.get(f"/api/v1/projects/gpt-cpu/commits/{files['parent_sha']}/files").json()
    changed = [path for path, text in files["files"].items() if parent["files"][path] != text]
    assert changed == ["train.py"]
    assert build_commit(tree_sha, files["parent_sha"], CommitWords("A <a@b>", 0, "m")).sha != sha


def check_page(http: httpx.Client, experiment_id: int, title: str) -> None:
    page = http.get(f"/experiments/{experiment_id}")
    assert page.status_code == 200
    assert title.split(" ")[0] in page.text and "train.py" in page.text
    assert http.get(f"/experiments/{experiment_id}.json").json()["id"] == experiment_id
