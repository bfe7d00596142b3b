"""A server of forks, in which the modules that most processes of tests begin with are loaded once.

Loading them takes longer than most tests of such a process. Programs that are tested as they are installed are started
by tests/acceptance/test_installed.py and others.
"""

import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from multiprocessing.forkserver import ensure_running
from typing import Any
from unittest.mock import patch

CANARY = "canary-in-the-environment"
"""The SWARM_TOKEN of the server, which its forks have in /proc/<pid>/environ, too: no sandbox may see it."""

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    ["coordinator.__main__", "coordinator.app", "uvicorn", "tests.worker.sandbox.driver", "tests.support.forks"]
)


def fork(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Start a function of a module in a fork of the server."""
    with patch.dict(os.environ, SWARM_TOKEN=CANARY):
        ensure_running()
    process = _forks.Process(target=target, args=arguments)
    process.start()
    return process


def set_environment(environment: Mapping[str, str]) -> None:
    """In a fork: the variables of a program that is started with these."""
    os.environ.clear()
    os.environ.update(environment)
