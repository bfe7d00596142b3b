"""A server of forks, in which the modules that most processes of tests begin with are loaded once.

Loading them takes longer than most tests of such a process. Programs that are tested as they are installed are started
by tests/acceptance/test_installed.py and others.
"""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from multiprocessing.forkserver import ensure_running
from typing import Any
from unittest.mock import patch

CANARY = "canary-in-the-environment"
"""The SWARM_TOKEN of the server, which its forks have in /proc/<pid>/environ, too: no sandbox may see it."""

PR_SET_PDEATHSIG = 1  # linux/prctl.h

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    ["coordinator.__main__", "coordinator.app", "uvicorn", "tests.worker.sandbox.driver", "tests.support.forks"]
)


def fork(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Start a function of a module in a fork of the server."""
    with patch.dict(os.environ, SWARM_TOKEN=CANARY):
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
