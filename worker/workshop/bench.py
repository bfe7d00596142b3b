"""A place to measure work trees by hand: exactly as a job would, but for no coordinator and no lease."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.commits import CommitError, build_blob, build_trees
from shared.contract import Contract
from shared.runs import RunReport
from shared.seeds import SeedInvalid, read_seed
from worker.data import DataError
from worker.hardware import HardwareError, detect_machine
from worker.laboratory import LocalLaboratory, Sample
from worker.sandbox import SandboxUnavailable, choose_sandbox
from worker.settings import SettingsError, load_settings
from worker.stopping import Stop
from worker.training import Progress, RunImpossible, RunStopped

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class WorkshopError(Exception):
    """A command cannot go on; the message is one line: why, and what to do. `status` is the exit status."""

    def __init__(self, message: str, status: int = EXIT_ERROR) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class WorkTree:
    """A folder's content. `sha` is the name that git has for exactly these files, harness included."""

    contract: Contract
    files: dict[str, str]
    sha: str


def read_tree(folder: Path) -> WorkTree:
    """Read a seed's folder, or a clone of a project. Raises WorkshopError."""
    if not folder.is_dir():
        raise WorkshopError(f"{folder} is not a folder", EXIT_USAGE)
    try:
        contract, files = read_seed(folder)
        sha, _ = build_trees({path: build_blob(text).sha for path, text in files.items()})
    except (SeedInvalid, CommitError) as error:
        raise WorkshopError(str(error).rstrip(".")) from error
    return WorkTree(contract, files, sha)


class Bench:
    """One device of this machine, on which work trees are measured until somebody presses Ctrl-C."""

    def __init__(self, laboratory: LocalLaboratory, stop: Stop, tell: Callable[[str], None]) -> None:
        self.laboratory = laboratory
        self._stop = stop
        self._tell = tell

    def measure(self, tree: WorkTree, seed: int, on_progress: Callable[[Progress], None]) -> RunReport:
        """Run a tree once, its data prepared on first need. Raises WorkshopError where there is no run."""
        sample = Sample(tree.contract, tree.sha, tree.files, seed)
        with _explained():
            return self.laboratory.measure(sample, on_progress, self._tell, self._stop.now)

    def prepare(self, tree: WorkTree) -> Path:
        """Download and prepare a tree's data; the folder where it lies. Raises WorkshopError."""
        with _explained():
            data = self.laboratory.prepare(Sample(tree.contract, tree.sha, tree.files, 0), self._tell, self._stop.now)
        return data.train.parent


@contextmanager
def open_bench(flags: dict[str, Any], tell: Callable[[str], None]) -> Iterator[Bench]:
    """A bench by the worker's own settings; without a device it is the CPU's. Main thread only. Raises WorkshopError.

    `tell` hears about the preparation of data. The first Ctrl-C already ends a run: there is nobody to report it to.
    """
    try:
        settings = load_settings(flags)
        machine = detect_machine(settings.device or "cpu", settings.cores)
        sandbox = choose_sandbox(settings.sandbox, machine.gpu)
    except SettingsError as error:
        raise WorkshopError(str(error), EXIT_USAGE) from error
    except (HardwareError, SandboxUnavailable) as error:
        raise WorkshopError(str(error)) from error
    laboratory = LocalLaboratory(
        device=machine.device,
        hardware=machine.hardware,
        sandbox=sandbox,
        cache=settings.data_dir / "data",
        runs=settings.data_dir / "workshop",
        mirrors=settings.mirrors,
    )
    stop = Stop()
    with stop.on_signals(stop.request):
        yield Bench(laboratory, stop, tell)


@contextmanager
def _explained() -> Iterator[None]:
    """What can keep a run from being one, as a line."""
    try:
        yield
    except (DataError, RunImpossible) as error:
        raise WorkshopError(str(error)) from error
    except RunStopped as error:
        raise WorkshopError("stopped", EXIT_INTERRUPTED) from error
    except OSError as error:
        raise WorkshopError(f"this machine's disk cannot be used: {error.strerror or error}") from error
