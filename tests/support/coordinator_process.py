"""A coordinator as a process of its own, for tests that kill it."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.forks import ForkedProgram
from tests.support.ports import choose_port


def wait_for_port(is_alive: Callable[[], bool], log: Path) -> int:
    """Wait until the coordinator listens; the port that it printed into its log."""
    deadline = time.monotonic() + 120
    while not (found := re.search(r"Coordinator at http://127.0.0.1:(\d+)", log.read_text())):
        assert time.monotonic() < deadline and is_alive(), log.read_text()
        time.sleep(0.02)
    return int(found.group(1))


class Coordinator:
    """A coordinator's process that can be killed and started again, on the same port and database."""

    def __init__(self, database_url: str, folder: Path, port: int = 0, **settings: str) -> None:
        """`settings` are more variables of its environment."""
        self._environment = {**os.environ, "SWARM_DATABASE_URL": database_url, **settings}
        self._log = folder / f"coordinator-{port}.log"
        self._port = str(port or choose_port())
        self.start()

    def start(self) -> None:
        serve = ["serve", "--port", self._port]
        self._process = ForkedProgram("coordinator.__main__", serve, self._environment, self._log, self._log)
        wait_for_port(lambda: self._process.poll() is None, self._log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self._port)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
