"""The program, its environment and an idle coordinator are those of tests/worker/test_cli.py."""

from collections.abc import Callable

import pytest

from tests.worker.conftest import LiveCoordinator
from tests.worker.test_cli import Done, RunHere, at, empty, environment, run_here

__all__ = ["empty", "environment", "run_here"]


@pytest.fixture
def tell(run_here: RunHere, environment: dict[str, str], empty: LiveCoordinator) -> Callable[..., Done]:
    """Run a command at a coordinator that knows the token."""
    return lambda *arguments, **changes: run_here(environment | at(empty) | changes, *arguments)
