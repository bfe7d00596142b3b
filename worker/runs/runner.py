"""What measures commits on this machine: a device, a sandbox, and the projects' data, prepared on first need."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Protocol

from shared.contract import Contract
from shared.hardware import Hardware
from shared.leases import Phase
from shared.runs import CurvePoint, RunReport
from worker.data.prepare import DataProgress, PreparedData, prepare_data
from worker.runs.harness_process import HarnessNotReady, Stopped
from worker.runs.precompile import compile_ahead
from worker.runs.report import write_report
from worker.runs.run import ActiveRun
from worker.runs.spec import RunImpossible, RunProgress, RunSpec, RunStopped
from worker.sandbox import Sandbox
from worker.settings import PUBLIC_PLACES, Mirrors

SMOKE_SECONDS = 10.0
WORTH_A_SMOKE_RUN = 10
"""So many times longer than a smoke run must the budget be; a shorter run is its own."""

KEPT_RUNS = 20
"""Folders of the last runs that stay on disk, with log and result, for people to look at."""


KEPT_ARCHIVES = 4
"""Of compiled code, for each project: a machine may have GPUs of several kinds."""


@dataclass(frozen=True)
class RunRequest:
    """A commit to be measured: its whole work tree, and the seed that the harness uses.

    `try_first` asks for a smoke run before the run; the next two are for its early stop, see `RunSpec`.
    `untouched` is the project's own work tree, where it is known: what it compiles is kept for all runs to begin with.
    """

    contract: Contract
    sha: str
    files: Mapping[str, str]
    seed: int
    try_first: bool = False
    parent_curve: Sequence[CurvePoint] = ()
    run_to_end: bool = False
    untouched: Mapping[str, str] | None = None


class Runner(Protocol):
    """Measures commits. `sandbox_name` is shown to people; `hardware` is what the coordinator is told."""

    @property
    def hardware(self) -> Hardware: ...

    @property
    def sandbox_name(self) -> str: ...

    def measure(
        self, request: RunRequest, on_progress: Callable[[RunProgress], None], tell: Callable[[str], None], stop: Event
    ) -> RunReport:
        """Measure a commit; every way in which it can fail is an outcome of the report.

        `tell` hears about the preparation of data. Raises DataError, and RunStopped where there is no measurement.
        """
        ...


@dataclass
class LocalRunner:
    """This machine. Data is cached in `cache` for all workers; runs leave their logs in `runs`."""

    device: str
    hardware: Hardware
    sandbox: Sandbox
    cache: Path
    runs: Path
    mirrors: Mirrors = PUBLIC_PLACES
    smoke_seconds: float = SMOKE_SECONDS
    _prepared: dict[str, PreparedData] = field(default_factory=dict)
    _compiled: dict[str, Path | None] = field(default_factory=dict)

    @property
    def sandbox_name(self) -> str:
        return self.sandbox.name

    def measure(
        self, request: RunRequest, on_progress: Callable[[RunProgress], None], tell: Callable[[str], None], stop: Event
    ) -> RunReport:
        """Prepare what the project needs, if this process has not yet, try new code out, then train and score."""
        data = self.prepare(request, each_once(tell), stop)
        self._forget_old_runs()
        spec = RunSpec(
            files=request.files,
            commit_sha=request.sha,
            contract=request.contract,
            seed=request.seed,
            device=self.device,
            cores=self.hardware.cores,
            data=data,
            sandbox=self.sandbox,
            hardware=self.hardware,
            folder=self.runs / f"{self._next_run():06d}-{request.sha[:10]}",
            parent_curve=request.parent_curve,
            run_to_end=request.run_to_end,
        )
        spec = replace(spec, compiled=self._compile(request, spec, tell, stop))
        on_progress(RunProgress(Phase.STARTING, 0, None, 0.0))
        if request.try_first and request.contract.budget.training_seconds >= WORTH_A_SMOKE_RUN * self.smoke_seconds:
            tell(f"new code is tried for {self.smoke_seconds:g} s first")
            failed = try_out(spec, self.smoke_seconds, stop)
            if failed is not None:
                return failed
        return measure(spec, on_progress, stop)

    def prepare(self, request: RunRequest, follow: Callable[[DataProgress], None], stop: Event) -> PreparedData:
        """The project's data, made ready if this process has not yet. Raises DataError, RunStopped."""
        key = f"{request.contract.project.name}/{request.contract.project.version}"
        if key not in self._prepared:

            def follow_until_stopped(progress: DataProgress) -> None:
                if stop.is_set():
                    raise Stopped
                follow(progress)

            try:
                self._prepared[key] = prepare_data(
                    request.contract, request.files, self.cache, self.sandbox, follow_until_stopped, self.mirrors, stop
                )
            except Stopped:
                raise RunStopped("the worker was stopped while it prepared the project's data") from None
        return self._prepared[key]

    def _compile(self, request: RunRequest, spec: RunSpec, tell: Callable[[str], None], stop: Event) -> Path | None:
        """What the project's untouched code compiled on this device, made if it is not there yet."""
        if request.untouched is None or not request.contract.limits.compiled_mib:
            return None
        project = request.contract.project.name
        archive = self.cache / "compiled" / f"{project}-{self._name_of_compiled(request.untouched)}.tar"
        if archive.name not in self._compiled:
            if not archive.exists():
                tell("compiling the project's own code, once for all runs")
                compile_ahead(replace(spec, files=request.untouched), archive, stop)
                for old in sorted(archive.parent.glob(f"{project}-*.tar"), key=_age_of)[KEPT_ARCHIVES:]:
                    old.unlink(missing_ok=True)
            self._compiled[archive.name] = archive if archive.exists() else None
        return self._compiled[archive.name]

    def _name_of_compiled(self, untouched: Mapping[str, str]) -> str:
        """A name that changes with all that compiled code depends on."""
        platform = [self.hardware.hardware_class, self.hardware.torch_version, sys.version]
        described = json.dumps([platform, sorted(untouched.items())])
        return hashlib.sha256(described.encode()).hexdigest()[:20]

    def _run_folders(self) -> list[Path]:
        return sorted(path for path in self.runs.glob("*-*") if path.is_dir())

    def _next_run(self) -> int:
        numbers = [int(n) for path in self._run_folders() if (n := path.name.partition("-")[0]).isdecimal()]
        return max(numbers, default=0) + 1

    def _forget_old_runs(self) -> None:
        for folder in self._run_folders()[: -KEPT_RUNS + 1]:
            shutil.rmtree(folder)


def each_once(tell: Callable[[str], None]) -> Callable[[DataProgress], None]:
    """Follows the preparation of data by a line for each thing that is done."""
    said = ""

    def follow(progress: DataProgress) -> None:
        nonlocal said
        if progress.what != said:
            said = progress.what
            tell(said)

    return follow


def _age_of(path: Path) -> float:
    """For sorting: the youngest first."""
    try:
        return -path.stat().st_mtime
    except FileNotFoundError:  # another worker of this machine was quicker
        return 0.0


def measure(spec: RunSpec, on_progress: Callable[[RunProgress], None], stop: Event) -> RunReport:
    """Train and score `spec`'s commit; every way in which it can fail is an outcome of the report.

    `on_progress` is called about twice a second, from the calling thread, which must live as long as the run.
    Setting `stop` ends the run within a second. Raises RunStopped if `stop` was set, RunImpossible (a RunStopped) if
    this machine cannot run the harness.
    """
    with _named():
        report = ActiveRun(spec, on_progress, stop).measure()
    with suppress(OSError):  # a full disk: people miss a file to read, and the measurement is kept
        write_report(report, spec.contract, spec.folder)
    return report


def try_out(spec: RunSpec, seconds: float, stop: Event) -> RunReport | None:
    """Train `spec`'s commit for so long and load what comes of it: a smoke run. None if it went well; raises as above.

    What fails here would have failed later, after the whole budget: a mistake in the host's part shows only then.
    """
    budget = spec.contract.budget.model_copy(update={"training_seconds": seconds})
    contract = spec.contract.model_copy(update={"budget": budget})
    with _named():
        report = ActiveRun(replace(spec, contract=contract, parent_curve=()), lambda _: None, stop).try_out()
    if report is None:
        return None
    return report.model_copy(update={"reason": f"in a smoke run of {seconds:g} s: {report.reason}"[:1000]})


@contextmanager
def _named() -> Iterator[None]:
    """What ends a run without a report, by the names that callers know."""
    try:
        yield
    except Stopped:
        raise RunStopped("the worker was asked to stop") from None
    except HarnessNotReady as fault:
        raise RunImpossible(f"this machine cannot run the project's harness: {fault.reason}") from fault
