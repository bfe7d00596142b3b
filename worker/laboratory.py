"""What measures commits on this machine: a device, a sandbox, and the projects' data, prepared on first need."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Protocol

from shared.contract import Contract
from shared.hardware import Hardware
from shared.leases import Phase
from shared.runs import CurvePoint, RunReport
from worker.data import PUBLIC_PLACES, DataProgress, Mirrors, PreparedData, prepare_data
from worker.sandbox import Sandbox
from worker.training import Progress, RunStopped, TrainingJob, measure, try_out

SMOKE_SECONDS = 10.0
WORTH_A_SMOKE_RUN = 10
"""So many times longer than a smoke run must the budget be; a shorter run is its own."""

KEPT_RUNS = 20
"""Folders of the last runs that stay on disk, with log and result, for people to look at."""


@dataclass(frozen=True)
class Sample:
    """A commit to be measured: its whole work tree, and the seed that the harness uses.

    `try_first` asks for a smoke run before the run; the last two are for its early stop, see `TrainingJob`.
    """

    contract: Contract
    sha: str
    files: Mapping[str, str]
    seed: int
    try_first: bool = False
    parent_curve: Sequence[CurvePoint] = ()
    run_to_end: bool = False


class Laboratory(Protocol):
    """Measures commits. `sandbox_name` is shown to people; `hardware` is what the coordinator is told."""

    @property
    def hardware(self) -> Hardware: ...

    @property
    def sandbox_name(self) -> str: ...

    def measure(
        self, sample: Sample, on_progress: Callable[[Progress], None], tell: Callable[[str], None], stop: Event
    ) -> RunReport:
        """Measure a commit; every way in which it can fail is an outcome of the report.

        `tell` hears about the preparation of data. Raises DataError, and RunStopped where there is no measurement.
        """
        ...


@dataclass
class LocalLaboratory:
    """This machine. Data is cached in `cache` for all workers; runs leave their logs in `runs`."""

    device: str
    hardware: Hardware
    sandbox: Sandbox
    cache: Path
    runs: Path
    mirrors: Mirrors = PUBLIC_PLACES
    smoke_seconds: float = SMOKE_SECONDS
    _prepared: dict[str, PreparedData] = field(default_factory=dict)

    @property
    def sandbox_name(self) -> str:
        return self.sandbox.name

    def measure(
        self, sample: Sample, on_progress: Callable[[Progress], None], tell: Callable[[str], None], stop: Event
    ) -> RunReport:
        """Prepare the project's data if this process has not yet, try new code out, then train and score."""
        data = self.prepare(sample, tell, stop)
        self._forget_old_runs()
        job = TrainingJob(
            files=sample.files,
            commit_sha=sample.sha,
            contract=sample.contract,
            seed=sample.seed,
            device=self.device,
            cores=self.hardware.cores,
            data=data,
            sandbox=self.sandbox,
            hardware=self.hardware,
            folder=self.runs / f"{self._next_run():06d}-{sample.sha[:10]}",
            parent_curve=sample.parent_curve,
            run_to_end=sample.run_to_end,
        )
        on_progress(Progress(Phase.STARTING, 0, None, 0.0))
        if sample.try_first and sample.contract.budget.training_seconds >= WORTH_A_SMOKE_RUN * self.smoke_seconds:
            tell(f"new code is tried for {self.smoke_seconds:g} s first")
            failed = try_out(job, self.smoke_seconds, stop)
            if failed is not None:
                return failed
        return measure(job, on_progress, stop)

    def prepare(self, sample: Sample, tell: Callable[[str], None], stop: Event) -> PreparedData:
        """The project's data, made ready if this process has not yet. Raises DataError, RunStopped."""
        key = f"{sample.contract.project.name}/{sample.contract.project.version}"
        if key not in self._prepared:
            said = ""

            def follow(progress: DataProgress) -> None:
                nonlocal said
                if stop.is_set():
                    raise RunStopped("the worker was stopped while it prepared the project's data")
                if progress.what != said:
                    said = progress.what
                    tell(said)

            self._prepared[key] = prepare_data(
                sample.contract, sample.files, self.cache, self.sandbox, follow, self.mirrors
            )
        return self._prepared[key]

    def _run_folders(self) -> list[Path]:
        return sorted(path for path in self.runs.glob("*-*") if path.is_dir())

    def _next_run(self) -> int:
        numbers = [int(n) for path in self._run_folders() if (n := path.name.partition("-")[0]).isdecimal()]
        return max(numbers, default=0) + 1

    def _forget_old_runs(self) -> None:
        for folder in self._run_folders()[: -KEPT_RUNS + 1]:
            shutil.rmtree(folder)
