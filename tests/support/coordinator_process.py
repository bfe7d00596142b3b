"""A coordinator as a process of its own, for tests that kill it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def wait_for_port(process: "subprocess.Popen[Any]", log: Path) -> int:
    """Wait until the coordinator listens; the port that it printed into its log."""
    deadline = time.monotonic() + 60
    while not (found := re.search(r"Coordinator at http://127.0.0.1:(\d+)", log.read_text())):
        assert time.monotonic() < deadline and process.poll() is None, log.read_text()
        time.sleep(0.02)
    return int(found.group(1))


class Coordinator:
    """A coordinator's process that can be killed and started again, on the same port and database."""

    def __init__(self, database_url: str, folder: Path, port: int = 0, **settings: str) -> None:
        """`settings` are more variables of its environment."""
        self._environment = {**os.environ, "SWARM_DATABASE_URL": database_url, **settings}
        self._log = folder / f"coordinator-{port}.log"
        self._port = str(port)
        self.start()

    def start(self) -> None:
        with self._log.open("w") as output:
            self.popen = subprocess.Popen(
                [Path(sys.executable).with_name("swarm-coordinator"), "serve", "--port", self._port],
                env=self._environment, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._port = str(wait_for_port(self.popen, self._log))

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self._port)

    def kill(self) -> None:
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()
