"""Measures work trees by hand, exactly as a job would, but without coordinator and lease."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.commits import CommitError, build_blob, build_trees
from shared.contract import Contract, ContractError, parse_contract
from shared.runs import RunReport
from shared.seeds import SeedInvalid, read_seed, resolve_seed
from worker.api.client import ClientError, CoordinatorClient, Rejected
from worker.authoring.view import View
from worker.commands.options import ExitStatus, WorkerCommandError
from worker.data.download import DataError
from worker.loop.stop import Stop
from worker.machine.hardware import HardwareError, detect_machine
from worker.runs.runner import LocalRunner, RunRequest
from worker.runs.spec import RunImpossible, RunStopped
from worker.sandbox.base import SandboxUnavailable
from worker.sandbox.choose import choose_sandbox
from worker.settings import WorkerSettings


@dataclass(frozen=True)
class WorkTree:
    """A folder's content. `sha` is git's hash of the tree, harness included."""

    contract: Contract
    files: dict[str, str]
    sha: str


def read_tree(name: str) -> WorkTree:
    """Read a seed of the package, a seed's folder, or a clone of a project. Raises WorkerCommandError."""
    folder = resolve_seed(name)
    if not folder.is_dir():
        raise WorkerCommandError(f"{folder} is not a folder", ExitStatus.USAGE)
    try:
        contract, files = read_seed(folder)
        sha, _ = build_trees({path: build_blob(text).sha for path, text in files.items()})
    except (SeedInvalid, CommitError) as error:
        raise WorkerCommandError(str(error).rstrip(".")) from error
    return WorkTree(contract, files, sha)


def fetch_tree(name: str, settings: WorkerSettings) -> WorkTree:
    """The first commit of a project on the coordinator. Raises WorkerCommandError."""
    try:
        with closing(CoordinatorClient(settings.require_coordinator(), token=None)) as client:
            project = client.fetch_project(name)
            files = client.fetch_files(name, project.root_sha).files
        return WorkTree(parse_contract(project.contract), files, project.root_sha)
    except Rejected as error:
        raise WorkerCommandError(f"{name} is neither a folder nor a project of {settings.coordinator_url}") from error
    except (ClientError, ContractError) as error:
        raise WorkerCommandError(f"{name} is not a folder, and cannot be fetched as a project: {error}") from error


class TreeRunner:
    """Measures work trees on one device until Ctrl-C."""

    def __init__(self, device_runner: LocalRunner, stop: Stop, view: View) -> None:
        self.device_runner, self._stop, self._view = device_runner, stop, view

    def measure(
        self,
        tree: WorkTree,
        seed: int,
        compiles_ahead: bool = False,
        holdout_key: str | None = None,
        rung: str | None = None,
    ) -> RunReport:
        """Run a tree once, on a rung if one is named, after preparing its data. Raises WorkerCommandError if there is
        no run, or no such rung.

        With `compiles_ahead`, its compiled code is kept for its next run, as for a project's first commit.
        """
        if rung is not None and tree.contract.find_rung(rung) is None:
            known = ", ".join(one.name for one in tree.contract.rungs) or "none"
            raise WorkerCommandError(f"the contract has no rung {rung}; it has {known}", ExitStatus.USAGE)
        self.prepare(tree)
        untouched = tree.files if compiles_ahead else None
        request = RunRequest(
            tree.contract, tree.sha, tree.files, seed, untouched=untouched, holdout_key=holdout_key, rung=rung
        )
        with _command_errors():
            report = self.device_runner.measure(request, self._view.follow, self._view.show, self._stop.now)
        self._view.end()
        return report

    def prepare(self, tree: WorkTree) -> Path:
        """Download and prepare a tree's data; returns its folder. Raises WorkerCommandError."""
        request = RunRequest(tree.contract, tree.sha, tree.files, seed=0)
        with _command_errors(), self._view.follow_data() as follow:
            return self.device_runner.prepare(request, follow, self._stop.now).train.parent


@contextmanager
def open_runner(settings: WorkerSettings, view: View) -> Iterator[TreeRunner]:
    """A runner by the worker's settings; the default device is the CPU. Main thread only. Raises WorkerCommandError.

    The first Ctrl-C already ends a run, because there is no lease to report it for.
    """
    try:
        machine = detect_machine(settings.device or "cpu", settings.cores)
        sandbox = choose_sandbox(settings.sandbox, machine.gpu)
    except (HardwareError, SandboxUnavailable) as error:
        raise WorkerCommandError(str(error)) from error
    cache, runs = settings.data_dir / "data", settings.data_dir / "workshop"
    device_runner = LocalRunner(machine.device, machine.hardware, sandbox, cache, runs, settings.mirrors)
    stop = Stop()
    with stop.on_signals(stop.request):
        yield TreeRunner(device_runner, stop, view)


@contextmanager
def _command_errors() -> Iterator[None]:
    """Turn errors that prevent a run into WorkerCommandError."""
    try:
        yield
    except (DataError, RunImpossible) as error:
        raise WorkerCommandError(str(error)) from error
    except RunStopped as error:
        raise WorkerCommandError("stopped", ExitStatus.INTERRUPTED) from error
    except OSError as error:
        raise WorkerCommandError(f"this machine's disk cannot be used: {error.strerror or error}") from error
