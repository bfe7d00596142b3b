"""The processes of `swarm demo`: one coordinator and one worker, which end with it."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

STOP_SECONDS = 10.0
PR_SET_PDEATHSIG = 1
"""From <sys/prctl.h>."""

_ADDRESS = re.compile(r"Coordinator at (\S+)")


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


def run_command(name: str, *arguments: str, environment: Mapping[str, str]) -> str:
    """Run one of our commands to its end and return what it printed. Raises DemoError with its own words."""
    done = subprocess.run(  # noqa: S603  our own program, found beside this interpreter
        [find_command(name), *arguments], env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise DemoError(done.stderr.strip() or f"{name} ended with status {done.returncode}")
    return done.stdout.strip()


def find_command(name: str) -> str:
    """The program installed beside this interpreter. Raises DemoError."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise DemoError(f"{name} is not installed beside {sys.executable}. `make demo` sets everything up.")
    return str(path)


def _end_with_parent() -> None:
    """In a new process: have the kernel end it should the demo itself be killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class ManagedProcess:
    """A program in a session of its own, so that Ctrl-C reaches it only through us. Its output goes to a file."""

    def __init__(self, name: str, *arguments: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  our own program, found beside this interpreter
                [find_command(name), *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    @property
    def status(self) -> int | None:
        """Exit status, or None while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        if self.status is None:
            self._process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; False if it still runs after `seconds`."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """End it: politely, then at once."""
        self.signal(signal.SIGTERM)
        if not self.wait(STOP_SECONDS):
            self.signal(signal.SIGKILL)
            self._process.wait()

    def read_last_line(self) -> str:
        """The last line that it printed, or an empty text."""
        lines = self.log.read_text(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "")

    def wait_for_address(self, seconds: float) -> str:
        """The coordinator's address, once it says so. Raises DemoError if it ends or stays silent."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = _ADDRESS.search(self.log.read_text(errors="replace"))
            if found:
                return found.group(1)
            if self.status is not None:
                raise DemoError(self.read_last_line() or f"{self.name} ended with status {self.status}")
            time.sleep(0.05)
        raise DemoError(f"{self.name} did not start within {seconds:.0f} s; see {self.log}.")
