"""A worker's process that tests start, kill and start again in one folder."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.support.forks import ForkedProgram

TIMEOUT_SECONDS = 240


class RestartableWorker:
    """One worker's folder, and its process while that runs."""

    def __init__(self, folder: Path, url: str, token: str, script: str | None = None, **settings: str) -> None:
        """`script` is for the scripted agent, else the search agent proposes; `settings` are environment variables."""
        self._folder = folder
        self._url = url
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SWARM_")},
            "SWARM_TOKEN": token,
            "XDG_CONFIG_HOME": str(folder / "config"),
            "NO_COLOR": "1",
            **settings,
        }
        self._agent: list[str] = []
        if script is not None:
            (folder / "script.json").write_text(script)
            self._agent = ["--script", str(folder / "script.json")]
        self._log = folder / "worker.log"

    def start(self, *arguments: str) -> None:
        self.popen = ForkedProgram(
            "worker.cli",
            [
                "--device", "cpu", "--cores", "1", "--plain", "--coordinator", self._url, "--name", "w1",
                "--data-dir", self._folder / "workers", *self._agent, *arguments,
            ],
            self._environment, stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def read_log(self) -> str:
        return self._log.read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < deadline and self.popen.poll() is None, self.read_log()
            time.sleep(0.02)

    def wait_for_phase(self, phase: str) -> None:
        self.wait_for(lambda: f"phase={phase}" in self.read_log())

    def kill(self) -> None:
        """Kill it with SIGKILL, and check that everything that it started ends too."""
        started = psutil.Process(self.popen.pid).children(recursive=True)
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()
        _, alive = psutil.wait_procs(started, timeout=TIMEOUT_SECONDS)
        assert not alive, alive

    def list_outbox(self) -> list[str]:
        """Names of the files below the outbox, refused ones included."""
        return [path.name for path in self._folder.glob("workers/workers/*/*/outbox/**/*.json")]
