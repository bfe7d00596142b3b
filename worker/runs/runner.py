"""Measures commits on this machine: a device, a sandbox, and the projects' data, prepared on first use."""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from shared.contract import BudgetClock, Contract
from shared.faults import find_fault
from shared.leases import Phase
from shared.runs import CurvePoint, DeviceKind, Hardware, RunOutcome, RunReport
from worker.data.download import DataProgress
from worker.data.prepare import PreparedData, prepare_data
from worker.machine.faults import explain, find_error_line, may_be_the_machines
from worker.runs.harness_process import HarnessFault, HarnessNotReady, HarnessTimeout, Stopped
from worker.runs.harness_protocol import Keep, Kept, Start
from worker.runs.processes import RunProcesses
from worker.runs.report import write_report
from worker.runs.run import ActiveRun
from worker.runs.spec import MachineFault, RunImpossible, RunProgress, RunSpec, RunStopped
from worker.runs.started_trainer import TrainerAhead
from worker.runs.throughput import choose_probe_seconds
from worker.sandbox.base import MIB, Sandbox
from worker.sandbox.shared_memory import SharedMemory
from worker.settings import PUBLIC_PLACES, Mirrors

Notify = Callable[[str], None]

SMOKE_SECONDS = 10.0
MIN_BUDGET_IN_SMOKE_RUNS = 10
"""Budgets shorter than this many smoke runs get no smoke run."""

KEPT_RUNS = 20
"""Folders of the last runs that stay on disk, with log and result."""

KEPT_ARCHIVES = 4
"""Archives of compiled code per project: a machine may have GPUs of several models."""


@dataclass(frozen=True)
class RunRequest:
    """A commit to measure: its whole work tree, and the harness's seed.

    `pace` times the training of the contract or of its `rung` is its budget. `try_first` asks for a smoke run first;
    `parent_curve`, `run_to_end` and `holdout_key` are as in `RunSpec`. `untouched` is the project's own work tree, if
    known; all runs start with its compiled code.
    """

    contract: Contract
    sha: str
    files: Mapping[str, str]
    seed: int
    try_first: bool = False
    parent_curve: Sequence[CurvePoint] = ()
    run_to_end: bool = False
    untouched: Mapping[str, str] | None = None
    holdout_key: str | None = None
    pace: float = 1.0
    rung: str | None = None


@dataclass
class LocalRunner:
    """Measures commits here. All workers share the data in `cache`; runs leave their logs in `runs`."""

    device: str
    hardware: Hardware
    sandbox: Sandbox
    cache: Path
    runs: Path
    mirrors: Mirrors = PUBLIC_PLACES
    smoke_seconds: float = SMOKE_SECONDS
    _prepared: dict[str, PreparedData] = field(default_factory=dict)
    _compiled: dict[str, Path | None] = field(default_factory=dict)
    _proven: set[str] = field(default_factory=set)
    """Digests of the own work trees of projects of which a run went well here since the worker started."""
    _ahead: TrainerAhead = field(init=False)

    def __post_init__(self) -> None:
        self._ahead = TrainerAhead(self.device, self.sandbox)

    @property
    def sandbox_name(self) -> str:
        return self.sandbox.name

    def measure(
        self,
        request: RunRequest,
        on_progress: Callable[[RunProgress], None],
        notify: Notify,
        stop: Event,
        following: Callable[[], RunRequest | None] = lambda: None,
    ) -> RunReport:
        """Measure a commit; each of its failures is an outcome of the report.

        `notify` gets lines about the preparation. The processes of the run after it, which `following` returns if it is
        known, may start while this one is scored. Raises DataError, and RunStopped if there is no measurement.
        """
        spec = self._specify(request, notify, stop)
        on_progress(RunProgress(Phase.STARTING))
        has_time = request.contract.budget.training_seconds >= MIN_BUDGET_IN_SMOKE_RUNS * self.smoke_seconds
        report = None
        if request.try_first and has_time:
            notify(f"new code is tried for {self.smoke_seconds:g} s first")
            report = try_out(spec, self.smoke_seconds, stop)
        self._ahead.following = following
        report = report or measure(replace(spec, ahead=self._ahead), on_progress, stop)
        if report.outcome is RunOutcome.OK and request.untouched is not None:
            self._proven.add(_digest(request.untouched))
        if report.outcome is RunOutcome.CRASHED and request.untouched is not None:
            self._try_untouched(spec, request.untouched, report, notify, stop)
        return report

    def drop_ahead(self) -> None:
        """End what was started for a run that does not follow after all."""
        self._ahead.drop()

    def _try_untouched(
        self, spec: RunSpec, untouched: Mapping[str, str], report: RunReport, notify: Notify, stop: Event
    ) -> None:
        """Blame a crash on its commit only if the project's own code runs on this machine.

        It is tried unless a run has gone well here, and again after a crash that may be the machine's: memory that
        others took, a GPU that was lost. Raises RunImpossible if it fails, too.
        """
        key = _digest(untouched)
        if key in self._proven and not may_be_the_machines(report.reason, report.log_tail):
            return
        if spec.files != untouched:
            notify("the run crashed: trying whether the project's own code runs on this machine")
            seconds = min(self.smoke_seconds, spec.contract.budget.training_seconds)
            own = try_out(replace(spec, files=untouched), seconds, stop)
            if own is None or own.outcome is not RunOutcome.CRASHED:
                self._proven.add(key)
                return
            report = own
        raise own_code_fails(report.reason, report.log_tail)

    def probe(self, request: RunRequest, notify: Notify, stop: Event) -> float | None:
        """Tokens (or steps) a second of the seed, in some seconds of its training; None where that cannot be measured.

        Raises as `measure` does.
        """
        budget = request.contract.budget
        by_cpu = budget.clock is BudgetClock.CPU and self.device == "cpu"
        seconds = choose_probe_seconds(budget.training_seconds, self.hardware.cores if by_cpu else 1)
        if seconds is None:
            return None
        spec = self._specify(replace(request, pace=seconds / budget.training_seconds), notify, stop)
        notify(f"trying for {seconds:.2g} s how fast the project's seed runs here")
        with _translated_errors():
            found = ActiveRun(spec, lambda _: None, stop).probe()
        if found is not None and request.untouched is not None:
            self._proven.add(_digest(request.untouched))
        return found

    def _specify(self, request: RunRequest, notify: Notify, stop: Event) -> RunSpec:
        """The run that a request asks for. Raises ContractError for an unknown rung."""
        data = self.prepare(request, each_once(notify), stop)  # the same for all rungs
        contract = request.contract.on_rung(request.rung)
        budget = contract.budget.at_pace(request.pace)
        curve = [point.model_copy(update={"seconds": request.pace * point.seconds}) for point in request.parent_curve]
        spec = RunSpec(
            files=request.files, commit_sha=request.sha, contract=contract.model_copy(update={"budget": budget}),
            seed=request.seed, device=self.device, cores=self.hardware.cores, data=data, sandbox=self.sandbox,
            hardware=self.hardware, folder=self._next_folder(request.sha), parent_curve=curve,
            run_to_end=request.run_to_end, holdout_key=request.holdout_key,
        )  # fmt: skip
        return replace(spec, compiled=self._compile(request, spec, notify, stop))

    def prepare(self, request: RunRequest, follow: Callable[[DataProgress], None], stop: Event) -> PreparedData:
        """The project's data, prepared on first use. Raises DataError, RunStopped."""
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

    def _compile(self, request: RunRequest, spec: RunSpec, notify: Notify, stop: Event) -> Path | None:
        """The archive of the project's own compiled code for this device, made on first use."""
        if request.untouched is None or not request.contract.limits.compiled_mib:
            return None
        if self.hardware.kind is DeviceKind.CPU:  # there seeds compile nothing
            return None
        project = request.contract.project.name
        # Compiled code depends on all of these.
        platform = [self.hardware.hardware_class, self.hardware.torch_version, sys.version]
        archive = self.cache / "compiled" / f"{project}-{_digest(request.untouched, *platform)}.tar"
        if archive.name not in self._compiled:
            if not archive.exists():
                notify("compiling the project's own code once for all runs")
                try:
                    compile_ahead(replace(spec, files=request.untouched), archive, stop)
                    self._proven.add(_digest(request.untouched))
                except OSError as error:
                    notify(f"each run compiles anew: {archive.parent} cannot keep the code ({error.strerror or error})")
                for old in sorted(archive.parent.glob(f"{project}-*.tar"), key=_age_of)[KEPT_ARCHIVES:]:
                    old.unlink(missing_ok=True)
            self._compiled[archive.name] = archive if archive.exists() else None
        return self._compiled[archive.name]

    def _next_folder(self, sha: str) -> Path:
        """The folder for the next run of that commit; folders of old runs are removed."""
        folders = sorted(path for path in self.runs.glob("*-*") if path.is_dir())
        numbers = [int(n) for path in folders if (n := path.name.partition("-")[0]).isdecimal()]
        for old in folders[: -KEPT_RUNS + 1]:
            shutil.rmtree(old)
        return self.runs / f"{max(numbers, default=0) + 1:06d}-{sha[:10]}"


def _digest(files: Mapping[str, str], *more: str) -> str:
    """A name for a work tree, and for more texts with it."""
    return hashlib.sha256(json.dumps([more, sorted(files.items())]).encode()).hexdigest()[:20]


def own_code_fails(reason: str, log: str) -> RunImpossible:
    """The error for a machine on which the project's own code crashes; a MachineFault if it is a known one."""
    kind = RunImpossible if find_fault(reason, log) is None else MachineFault
    told = (reason or find_error_line(log)).rstrip(": ")
    return kind(explain(f"the project's own code fails on this machine: {told}", log))


def each_once(notify: Notify) -> Callable[[DataProgress], None]:
    """A follower of the data's preparation that sends one line per step to `notify`."""
    last = ""

    def follow(progress: DataProgress) -> None:
        nonlocal last
        if progress.what != last:
            last = progress.what
            notify(last)

    return follow


def _age_of(path: Path) -> float:
    """Sort key: the youngest file first."""
    try:
        return -path.stat().st_mtime
    except FileNotFoundError:  # another worker of this machine removed it
        return 0.0


def measure(spec: RunSpec, on_progress: Callable[[RunProgress], None], stop: Event) -> RunReport:
    """Train and score `spec`'s commit; each of its failures is an outcome of the report.

    `on_progress` is called about twice a second, from the calling thread, which must live as long as the run.
    Setting `stop` ends the run within a second. Raises RunStopped if `stop` was set, RunImpossible (a RunStopped) if
    this machine cannot run the harness.
    """
    with _translated_errors():
        report = ActiveRun(spec, on_progress, stop).measure()
    with suppress(OSError):  # a full disk costs only the readable files
        write_report(report, spec.contract, spec.folder)
    return report


def try_out(
    spec: RunSpec, seconds: float, stop: Event, on_progress: Callable[[RunProgress], None] = lambda _: None
) -> RunReport | None:
    """A smoke run: train `spec`'s commit for `seconds` and load the result. None if it succeeds; raises as `measure`.

    It finds mistakes in the host's part before the whole budget is spent.
    """
    budget = spec.contract.budget.model_copy(update={"training_seconds": seconds})
    contract = spec.contract.model_copy(update={"budget": budget})
    with _translated_errors():
        report = ActiveRun(replace(spec, contract=contract, parent_curve=()), on_progress, stop).try_out()
    if report is None:
        return None
    return report.model_copy(update={"reason": f"in a smoke run of {seconds:g} s: {report.reason}"[:1000]})


@contextmanager
def _translated_errors(stopped: str = "the worker was asked to stop") -> Iterator[None]:
    """Translate errors that end a run without a report."""
    try:
        yield
    except Stopped:
        raise RunStopped(stopped) from None
    except HarnessNotReady as fault:
        kind = RunImpossible if find_fault(fault.reason) is None else MachineFault
        raise kind(explain(f"this machine cannot run the project's harness: {fault.reason}")) from fault


def compile_ahead(spec: RunSpec, archive: Path, stop: Event) -> bool:
    """Start `spec`'s code, which is the project's own, as in a run, and keep its compiled code in `archive`.

    False if its compiled code exceeds the contract's `compiled_mib`, or cannot be packed; runs then compile for
    themselves. Raises RunImpossible if the code does not start; and RunStopped as `measure`, and OSError.
    """
    with SharedMemory("compiled", spec.contract.limits.compiled_mib * MIB) as room:
        with _translated_errors("the worker was stopped while it compiled the project's own code"):
            size = min(_compile_into(room, spec, stop), room.size)
        if size:
            _save(room, size, archive)
        return size > 0


def _compile_into(room: SharedMemory, spec: RunSpec, stop: Event) -> int:
    """The size of the archive that the trainer wrote, 0 if it wrote none. Raises Stopped, HarnessNotReady and
    RunImpossible."""
    seconds = spec.contract.budget.starting_seconds
    deadline = time.monotonic() + seconds
    with ExitStack() as stack:
        processes = RunProcesses(replace(spec, compiled=None), stop, stack)
        trainer = processes.trainer
        trainer.await_ready()
        try:
            processes.begin_trainer(BudgetClock.WALL)
            trainer.expect(Start, deadline=deadline)
        except HarnessTimeout as fault:
            raise own_code_fails(f"it did not start within {seconds:g} s", "") from fault
        except HarnessFault as fault:
            raise own_code_fails(fault.reason, trainer.end().log_tail) from fault
        with suppress(HarnessFault):
            trainer.send(Keep(), [room.descriptor])
            return trainer.expect(Kept, deadline=deadline).size
    return 0


def _save(room: SharedMemory, size: int, archive: Path) -> None:
    """Write the first `size` bytes to `archive`, atomically."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_name(f"{archive.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            done = 0
            while done < size:
                done += os.sendfile(file.fileno(), room.descriptor, done, size - done)
        part.replace(archive)
    finally:
        part.unlink(missing_ok=True)
