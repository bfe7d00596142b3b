"""Runs Python code in a real sandbox that a real process started, as root and as a plain user."""

import os
import random
import sys
import tempfile
import textwrap
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path

import pytest

from tests.support.forks import CANARY, fork
from tests.worker.sandbox.driver import DriverRequest, drive
from worker.sandbox.base import ProcessOutcome
from worker.sandbox.landlock import find_version

PLAIN_UID = 20_000 + os.getpid() % 30_000
"""Of this process alone: processes of one user count against each other's limits."""
LIMITS = {"memory_mib": 256, "processes": 24, "disk_mib": 8}

USERS = [None, PLAIN_UID] if os.geteuid() == 0 else [None]
"""The user that starts the sandbox: that of the tests and, where that is root, a plain user as well."""

CONTAINERS = [("container", None)] * ("SWARM_TEST_CONTAINER" in os.environ)
"""They need an engine, which a machine for tests seldom has: SWARM_TEST_CONTAINER=1 says that this one does."""

NAMESPACED = [("bubblewrap", uid) for uid in USERS] + CONTAINERS
CONFINED = NAMESPACED + [("landlock", None)] * (os.geteuid() == 0 and find_version() > 0)
"""Landlock needs root, and a kernel that has it."""

VOLUNTEERS = [("bubblewrap", USERS[-1]), *CONTAINERS]
"""A plain user alone, where the tests may become one: for limits that do not depend on who starts the sandbox."""


def choose_seconds() -> str:
    """A time to sleep by which a process is known, also beside the same test of another process."""
    return f"9876.{random.randrange(10**9)}"


class Worker:
    """Starts sandboxed processes from a process of its own, as a worker would."""

    def __init__(self, sandbox: str, uid: int | None, folder: Path, without: str = "") -> None:
        self.sandbox, self._uid, self._folder, self._without = sandbox, uid, folder, without

    @property
    def shows_attacks(self) -> bool:
        """Whether an attack is to be seen winning without the defence: once is enough, whoever starts the sandbox."""
        return self._uid == USERS[-1]

    def without(self, defence: str) -> "Worker":
        """The same, but with that defence switched off (driver.py)."""
        return Worker(self.sandbox, self._uid, self._folder, defence)

    def start(
        self, code: str, timeout: float, cores: list[int] | None = None, orphans: int = 0, **limits: int
    ) -> "Driver":
        argv = [sys.executable, "-c", textwrap.dedent(code)]
        environment = {"PATH": os.environ["PATH"], "SWARM_TOKEN": CANARY}
        request = DriverRequest(
            self.sandbox, argv, LIMITS | limits, str(self._folder), timeout, self._uid, cores, orphans, self._without,
            environment,
        )  # fmt: skip
        return Driver(request)

    def run(self, code: str, timeout: float = 60.0, cores: list[int] | None = None, **limits: int) -> ProcessOutcome:
        """Run `code` to its end, or kill it after `timeout` seconds."""
        with self.start(code, timeout, cores, **limits) as driver:
            return driver.read(timeout + 120)  # a busy machine starts slowly


class Driver:
    """The process that starts a sandbox, until the end of a block or `kill`."""

    def __init__(self, request: DriverRequest) -> None:
        self._line, theirs = Pipe()
        self._process = fork(drive, request, theirs)
        theirs.close()

    def __enter__(self) -> "Driver":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.join()
        self._process.close()
        self._line.close()

    def end(self) -> ProcessOutcome:
        """Kill what it started, and return the outcome."""
        with suppress(BrokenPipeError):  # it has ended
            self._line.send("kill it")
        return self.read(120)

    def read(self, seconds: float) -> ProcessOutcome:
        """The outcome of what it started."""
        assert self._line.poll(seconds), "it does not end"
        outcome = self._line.recv()
        assert isinstance(outcome, ProcessOutcome)
        return outcome

    def has_told(self) -> bool:
        """Whether there is an outcome to read."""
        return self._line.poll()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()

    def has_ended(self) -> bool:
        return not self._process.is_alive()

    def wait(self, seconds: float) -> int | None:
        """Its exit status, or None if it goes on."""
        self._process.join(seconds)
        return self._process.exitcode


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder, readable by everybody, as the worker makes them."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text("DEPTH = 4\n")
    return project


@pytest.fixture(params=USERS, ids=lambda uid: "as-self" if uid is None else "as-plain-user")
def bubblewrap(request: pytest.FixtureRequest, project: Path) -> Worker:
    return Worker("bubblewrap", request.param, project)


def name_kind(kind: tuple[str, int | None]) -> str:
    return f"{kind[0]}-{'as-self' if kind[1] is None else 'as-plain-user'}"


@pytest.fixture(params=VOLUNTEERS, ids=name_kind)
def volunteer(request: pytest.FixtureRequest, project: Path) -> Worker:
    """Every sandbox that confines, started as most volunteers do."""
    sandbox, uid = request.param
    return Worker(sandbox, uid, project)


@pytest.fixture(params=CONFINED, ids=name_kind)
def confined(request: pytest.FixtureRequest, project: Path) -> Worker:
    """Every sandbox that confines, started by everyone who may start it."""
    sandbox, uid = request.param
    return Worker(sandbox, uid, project)


@pytest.fixture(params=NAMESPACED, ids=name_kind)
def namespaced(request: pytest.FixtureRequest, project: Path) -> Worker:
    """Every sandbox that confines by namespaces, and so has file systems of its own in memory."""
    sandbox, uid = request.param
    return Worker(sandbox, uid, project)


@pytest.fixture
def unconfined(project: Path) -> Worker:
    return Worker("unconfined", None, project)
