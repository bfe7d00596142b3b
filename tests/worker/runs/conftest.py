"""Measures work trees of a small project with real sandboxes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from shared.contract import Contract
from shared.runs import RunReport
from tests.support.preloaded_sandbox import PreloadedSandbox
from tests.support.tiny_project import Files, seed_files
from worker.data.prepare import PreparedData, prepare_data
from worker.machine.hardware import detect_machine
from worker.runs.runner import measure
from worker.runs.spec import RunProgress, RunSpec
from worker.sandbox.base import Sandbox

Measure = Callable[..., RunReport]


@pytest.fixture(scope="session")
def data(contract: Contract, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare_data(contract, seed_files(), tmp_path_factory.mktemp("cache"), sandbox, lambda progress: None)


@pytest.fixture
def trainer_apart(preloaded: PreloadedSandbox) -> Sandbox:
    """A sandbox of its own for the trainer, whose memory and all of whose CPU time are then its own, too."""
    return preloaded.with_separate("harness.trainer")


@pytest.fixture
def host_apart(preloaded: PreloadedSandbox) -> Sandbox:
    """Sandboxes of their own for the hosts."""
    return preloaded.with_separate("harness.host")


@pytest.fixture
def measure_files(contract: Contract, preloaded: PreloadedSandbox, data: PreparedData, tmp_path: Path) -> Measure:
    """Measure a work tree; `budget`, `limits` and `commands` replace parts of the contract's, the rest the job's."""

    def run(
        files: Files,
        on_progress: Callable[[RunProgress], None] = lambda progress: None,
        stop: Event | None = None,
        budget: Mapping[str, float] | None = None,
        limits: Mapping[str, int] | None = None,
        commands: Mapping[str, str | None] | None = None,
        sandbox: Sandbox = preloaded,
        **more: Any,
    ) -> RunReport:
        changed = contract.model_copy(
            update={
                "budget": contract.budget.model_copy(update=dict(budget or {})),
                "limits": contract.limits.model_copy(update=dict(limits or {})),
                "commands": contract.commands.model_copy(update=dict(commands or {})),
            }
        )
        hardware = detect_machine("cpu", 1).hardware
        job = RunSpec(files, "c" * 40, changed, 7, "cpu", 1, data, sandbox, hardware, tmp_path / "run", **more)
        return measure(job, on_progress, stop or Event())

    return run
