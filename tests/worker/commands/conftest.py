"""The program, its environment and an idle coordinator are those of tests/worker/test_cli.py."""

from tests.worker.test_cli import empty, environment, run_here

__all__ = ["empty", "environment", "run_here"]
