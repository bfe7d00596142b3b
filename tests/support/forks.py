"""A server of forks, in which the modules that most processes of tests begin with are loaded once.

Loading them takes longer than most tests of such a process. Programs that are tested as they are installed are started
by tests/acceptance/test_installed.py and others.
"""

import multiprocessing
import os
from collections.abc import Mapping

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["coordinator.__main__", "coordinator.app", "uvicorn", "tests.worker.sandbox.driver", "tests.support.forks"]
)


def set_environment(environment: Mapping[str, str]) -> None:
    """In a fork: the variables of a program that is started with these."""
    os.environ.clear()
    os.environ.update(environment)
