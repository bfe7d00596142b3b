"""Measures work trees by hand, exactly as a job would, but without coordinator and lease."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.commits import CommitError, build_blob, build_trees
from shared.contract import Contract, ContractError, parse_contract
from shared.runs import RunReport
from shared.seeds import SeedInvalid, read_seed, resolve_seed
from worker.api.client import ClientError, CoordinatorClient, Rejected
from worker.authoring.view import View
from worker.data.prepare import DataError
from worker.loop.stop import Stop
from worker.machine.hardware import HardwareError, detect_machine
from worker.runs.runner import LocalRunner, RunRequest
from worker.runs.spec import RunImpossible, RunStopped
from worker.sandbox import SandboxUnavailable, choose_sandbox
from worker.settings import SettingsError, WorkerSettings, load_settings

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class AuthoringError(Exception):
    """A command failed; the message is one line with reason and remedy. `status` is the exit status."""

    def __init__(self, message: str, status: int = EXIT_ERROR) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class WorkTree:
    """A folder's content. `sha` is git's hash of the tree, harness included."""

    contract: Contract
    files: dict[str, str]
    sha: str


def read_tree(name: str) -> WorkTree:
    """Read a seed of the package, a seed's folder, or a clone of a project. Raises AuthoringError."""
    folder = resolve_seed(name)
    if not folder.is_dir():
        raise AuthoringError(f"{folder} is not a folder", EXIT_USAGE)
    try:
        contract, files = read_seed(folder)
        sha, _ = build_trees({path: build_blob(text).sha for path, text in files.items()})
    except (SeedInvalid, CommitError) as error:
        raise AuthoringError(str(error).rstrip(".")) from error
    return WorkTree(contract, files, sha)


def fetch_tree(name: str, settings: WorkerSettings) -> WorkTree:
    """The first commit of a project on the coordinator. Raises AuthoringError."""
    client = CoordinatorClient(settings.coordinator_url, token=None)
    try:
        project = client.fetch_project(name)
        files = client.fetch_files(name, project.root_sha).files
        return WorkTree(parse_contract(project.contract), files, project.root_sha)
    except Rejected as error:
        raise AuthoringError(f"{name} is neither a folder nor a project of {settings.coordinator_url}") from error
    except (ClientError, ContractError) as error:
        raise AuthoringError(f"{name} is not a folder, and cannot be fetched as a project: {error}") from error
    finally:
        client.close()


class TreeRunner:
    """Measures work trees on one device until Ctrl-C."""

    def __init__(self, device_runner: LocalRunner, stop: Stop, view: View) -> None:
        self.device_runner = device_runner
        self._stop = stop
        self._view = view

    def measure(self, tree: WorkTree, seed: int, compiles_ahead: bool = False) -> RunReport:
        """Run a tree once, after preparing its data. Raises AuthoringError if there is no run.

        With `compiles_ahead`, its compiled code is kept for its next run, as for a project's first commit.
        """
        self.prepare(tree)
        request = RunRequest(
            tree.contract, tree.sha, tree.files, seed, untouched=tree.files if compiles_ahead else None
        )
        with _explained():
            report = self.device_runner.measure(request, self._view.follow, self._view.tell, self._stop.now)
        self._view.end()
        return report

    def prepare(self, tree: WorkTree) -> Path:
        """Download and prepare a tree's data; returns its folder. Raises AuthoringError."""
        request = RunRequest(tree.contract, tree.sha, tree.files, seed=0)
        with _explained(), self._view.follow_data() as follow:
            return self.device_runner.prepare(request, follow, self._stop.now).train.parent


def read_settings(flags: dict[str, Any]) -> WorkerSettings:
    """The worker's settings. Raises AuthoringError."""
    try:
        return load_settings(flags)
    except SettingsError as error:
        raise AuthoringError(str(error), EXIT_USAGE) from error


@contextmanager
def open_runner(flags: dict[str, Any], view: View) -> Iterator[TreeRunner]:
    """A runner by the worker's settings; the default device is the CPU. Main thread only. Raises AuthoringError.

    The first Ctrl-C already ends a run, because there is no lease to report it for.
    """
    settings = read_settings(flags)
    try:
        machine = detect_machine(settings.device or "cpu", settings.cores)
        sandbox = choose_sandbox(settings.sandbox, machine.gpu)
    except (HardwareError, SandboxUnavailable) as error:
        raise AuthoringError(str(error)) from error
    device_runner = LocalRunner(
        device=machine.device,
        hardware=machine.hardware,
        sandbox=sandbox,
        cache=settings.data_dir / "data",
        runs=settings.data_dir / "workshop",
        mirrors=settings.mirrors,
    )
    stop = Stop()
    with stop.on_signals(stop.request):
        yield TreeRunner(device_runner, stop, view)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn errors that prevent a run into AuthoringError."""
    try:
        yield
    except (DataError, RunImpossible) as error:
        raise AuthoringError(str(error)) from error
    except RunStopped as error:
        raise AuthoringError("stopped", EXIT_INTERRUPTED) from error
    except OSError as error:
        raise AuthoringError(f"this machine's disk cannot be used: {error.strerror or error}") from error
