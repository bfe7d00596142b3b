"""A server of forks, in which the modules that most processes of tests begin with are loaded once.

Loading them takes longer than most tests of such a process. Programs that are tested as they are installed are started
by tests/acceptance/test_installed.py and others.
"""

import atexit
import ctypes
import gc
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from threading import Lock
from typing import Any
from unittest.mock import patch

from tests.support.draws import repeat_draws

CANARY = "canary-in-the-environment"
"""The SWARM_TOKEN of the server, which its forks have in /proc/<pid>/environ, too: no sandbox may see it."""

PR_SET_PDEATHSIG = 1  # linux/prctl.h

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    ["coordinator.__main__", "coordinator.app", "uvicorn", "worker.cli", "worker.start", "worker.agents.chat",
     "worker.agents.search", "httpcore", "tests.worker.sandbox.driver", "tests.support.forks"]
)  # fmt: skip
_one_at_a_time = Lock()


def fork(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Start a function of a module in a fork of the server."""
    with _one_at_a_time, patch.dict(os.environ, SWARM_TOKEN=CANARY):
        ensure_running()
    process = _forks.Process(target=_begin, args=(target, *arguments))
    process.start()
    return process


def _begin(target: Callable[..., None], *arguments: Any) -> None:
    """In a fork: end with the server, which ends with the tests however those end; then do what was asked for."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    target(*arguments)


def set_environment(environment: Mapping[str, str]) -> None:
    """In a fork: the variables of a program that is started with these."""
    os.environ.clear()
    os.environ.update(environment)


class ForkedProgram:
    """One of our programs, started as `module`'s `main` in a fork, with what tests use of `subprocess.Popen`."""

    def __init__(
        self, module: str, arguments: Sequence[str | Path], env: Mapping[str, str], stdout: Path, stderr: Path
    ) -> None:
        for path in (stdout, stderr):
            path.write_text("")
        words = [str(argument) for argument in arguments]
        self._process = fork(_become, module, words, dict(env), stdout, stderr)
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a fork", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _become(module: str, arguments: list[str], environment: Mapping[str, str], stdout: Path, stderr: Path) -> None:
    for descriptor, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)
    set_environment(environment)
    tempfile.tempdir = None  # the one that was found before
    sys.argv = [module, *arguments]
    gc.freeze()  # what the server loaded is nobody's garbage; looking through it took most of a worker's start
    gc.enable()
    repeat_draws()
    try:
        importlib.import_module(module).main()
    finally:
        atexit._run_exitfuncs()
