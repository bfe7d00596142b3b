"""A coordinator that benchmarks run in a process of its own, to see what it takes."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

PATIENCE_SECONDS = 60.0


class ServerProcess:
    """A coordinator's process. Its address is set by whoever starts it."""

    def __init__(self, command: Sequence[str], database_url: str, **settings: str) -> None:
        environment = os.environ | {"SWARM_DATABASE_URL": database_url} | settings
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def wait_for(self, address: str) -> None:
        """Until it answers there."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                httpx.get(address, timeout=PATIENCE_SECONDS)
                return
            except httpx.ConnectError:
                time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=PATIENCE_SECONDS)

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def read_memory(self, name: str) -> float:
        """In MiB: `VmRSS`, what it holds now, or `VmHWM`, the most since the last `forget_peak`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [kib] = [line.split()[1] for line in status.splitlines() if line.startswith(name)]
        return int(kib) / 1024
