"""Pause frees the machine at once, resume continues, finish ends after the run, and so does closing the terminal.

A real worker's process runs on seed/codec, whose file ends when the test lets it, and ignores SIGTERM.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from coordinator.db.database import Database
from coordinator.projects.service import create_project
from tests.support.coordinator_process import Coordinator
from tests.support.tiny_project import pack_text, write_codec_seed
from tests.support.tokens import create_token
from tests.support.worker_process import TIMEOUT_SECONDS, RestartableWorker
from tests.worker.workers import wait_until

pytestmark = pytest.mark.acceptance

WAITING_CODE = """
import os
import signal
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
_compress = compress


def compress(text):
    while not os.path.exists("/project/may-end"):
        time.sleep(0.05)
    return _compress(text)
"""


class Machine:
    """The volunteer's machine: the worker and its commands, and the coordinator's pages."""

    def __init__(self, worker: RestartableWorker, coordinator: Coordinator, data_dir: Path, runs: Path) -> None:
        self.worker, self.data_dir, self._runs = worker, data_dir, runs
        self._url = f"http://127.0.0.1:{coordinator.address[1]}"

    def command(self, command: str, *arguments: str) -> str:
        program = Path(sys.executable).with_name("swarm-worker")
        done = subprocess.run(
            [program, command, "--data-dir", self.data_dir, *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout

    def status(self) -> dict[str, str]:
        (worker,) = json.loads(self.command("status", "--json"))
        assert isinstance(worker, dict)
        return worker

    def read_state(self) -> tuple[str, str]:
        """The worker's state as the coordinator has it, and the reason."""
        (row,) = httpx.get(f"{self._url}/api/v1/workers", timeout=60).json()["items"]
        return row["state"], row["reason"]

    def count_runs(self) -> int:
        return len(httpx.get(f"{self._url}/api/v1/runs?project=codec", timeout=60).json()["items"])

    def page(self) -> str:
        return httpx.get(f"{self._url}/projects/codec", timeout=60).text

    def let_run_end(self) -> None:
        """Let the code go on that runs now: its sandbox sees what is in the folder of the work tree."""
        for edited in self._runs.rglob("codec.py"):
            edited.with_name("may-end").touch()

    def sandboxed(self) -> list[psutil.Process]:
        """Processes that train or score now."""
        return psutil.Process(self.worker.popen.pid).children(recursive=True)


@pytest.mark.timeout(600)
def test_the_machine_is_free_while_paused_and_everybody_sees_it(
    database: Database, text_server: str, tmp_path: Path
) -> None:
    with database.write() as session:
        create_project(session, write_waiting_seed(tmp_path / "seed", text_server))
        token = create_token(session, "ada", "test")
    coordinator = Coordinator(database.url.render_as_string(), tmp_path)
    runs = tmp_path / "runs"
    runs.mkdir()
    url = f"http://127.0.0.1:{coordinator.address[1]}"
    worker = RestartableWorker(tmp_path, url, token, TMPDIR=str(runs))
    try:
        worker.start()
        machine = Machine(worker, coordinator, tmp_path / "workers", runs)
        pause_and_resume(machine)
        close_terminal(machine, f"--coordinator {url} --name w1", {"SWARM_TOKEN": token, "TMPDIR": str(runs)})
    finally:
        if worker.popen.poll() is None:
            worker.kill()
        coordinator.kill()


def write_waiting_seed(folder: Path, text_server: str) -> Path:
    seed = write_codec_seed(folder, text_server, pack_text(), WAITING_CODE)
    contract = (seed / "swarm.toml").read_text()
    assert contract.count("training_seconds = 60\n") == 1
    (seed / "swarm.toml").write_text(contract.replace("training_seconds = 60\n", "training_seconds = 600\n"))
    return seed


def pause_and_resume(machine: Machine) -> None:
    worker = machine.worker
    worker.wait_for_phase("training")
    assert machine.sandboxed()
    begun = time.monotonic()
    assert "pausing" in machine.command("pause")
    worker.wait_for(lambda: not machine.sandboxed())
    print(f"paused after {time.monotonic() - begun:.1f} s")  # noqa: T201 - for people; a loaded machine takes longer
    worker.wait_for(lambda: machine.status()["state"].startswith("Paused, until"))
    worker.wait_for(lambda: machine.read_state() == ("paused", "Paused, until `swarm-worker resume`."))
    assert "w1-cpu" in machine.page() and "paused:" in machine.page()
    assert "No worker is on this project" in machine.page()

    runs = worker.read_log().count("phase=training")
    machine.command("resume")
    worker.wait_for(lambda: worker.read_log().count("phase=training") > runs)
    assert "experiments follow" not in worker.read_log(), "no waiting for a job that was given back"
    assert machine.read_state()[0] == "working"
    assert "stops after this run" in machine.command("finish")
    worker.wait_for(lambda: machine.status().get("ending") == "ends after this run")
    worker.wait_for(lambda: "ends after this run" in machine.page())
    machine.let_run_end()
    assert worker.popen.wait(TIMEOUT_SECONDS) == 0, worker.read_log()
    assert worker.read_log().count("event=run") == 1
    assert machine.read_state()[0] == "stopped"


def close_terminal(machine: Machine, flags: str, environment: dict[str, str]) -> None:
    program = Path(sys.executable).with_name("swarm-worker")
    command = f"exec env --default-signal=HUP {program} --device cpu --cores 1 --data-dir {machine.data_dir} {flags}"
    environment = {**os.environ, **environment, "COLUMNS": "100", "TERM": "xterm"}
    with subprocess.Popen(
        ["script", "--quiet", "--command", command, "/dev/null"],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    ) as terminal:  # fmt: skip
        wait_until(lambda: machine.read_state()[0] == "working" and "training" in machine.command("status"))
        (worker,) = psutil.Process(terminal.pid).children()
        terminal.kill()
    wait_until(lambda: machine.status().get("ending") == "ends after this run")
    assert worker.is_running()
    machine.let_run_end()
    wait_until(lambda: machine.read_state()[0] == "stopped")
    assert worker.wait(TIMEOUT_SECONDS) is None or not worker.is_running()
    assert machine.count_runs() == 2, "the one before and this one"
