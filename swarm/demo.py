"""`swarm demo`: a whole swarm on this machine, one coordinator and one CPU worker, on a seed of the package.

All its files are in one folder, so the next demo goes on where this one stopped. Both processes end with it.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shared.formatting import format_run
from shared.leases import LeaseView, Phase
from swarm.client import Client
from swarm.listing import CommandError
from swarm.output import build_experiments_table

START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 10.0
POLL_INTERVAL_SECONDS = 0.5
SHOWN_EXPERIMENTS = 15
LAST_EXPERIMENTS = 50
INTERRUPTED = 130
PR_SET_PDEATHSIG = 1
"""From <sys/prctl.h>."""

_ADDRESS = re.compile(r"Coordinator at (\S+)")

_PHASES = {
    Phase.DRAFTING: "is drafting a proposal",
    Phase.READY: "is ready to start",
    Phase.STARTING: "is starting",
    Phase.TRAINING: "is training",
    Phase.SCORING: "is being scored",
    Phase.REPORTING: "is being reported",
}


def run_command(name: str, *arguments: str, environment: Mapping[str, str]) -> str:
    """Runs one of our commands to its end and returns its stdout. Raises CommandError with its stderr."""
    done = subprocess.run(  # noqa: S603  our own program, found beside this interpreter
        [find_command(name), *arguments], env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise CommandError(done.stderr.strip() or f"{name} ended with status {done.returncode}")
    return done.stdout.strip()


def find_command(name: str) -> str:
    """The program installed beside this interpreter. Raises CommandError."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise CommandError(
            f"{name} is not installed beside {sys.executable}. Install research-swarm[coordinator,worker]."
        )
    return str(path)


def _end_with_parent() -> None:
    """Runs in a new process: the kernel ends it if the demo is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class LoggedProcess(subprocess.Popen[bytes]):
    """A program in its own session, so that Ctrl-C does not reach it directly. Its output goes to a file."""

    def __init__(self, name: str, *arguments: str, environment: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        with log.open("wb") as output:
            super().__init__(
                [find_command(name), *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def __exit__(self, *_: object) -> None:
        """Ends it with SIGTERM, and after STOP_TIMEOUT_SECONDS with SIGKILL."""
        self.terminate()
        try:
            self.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()

    def read_last_line(self) -> str:
        """The last line of its output, or an empty text."""
        lines = self.log.read_text(errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "")

    def wait_for_address(self, seconds: float) -> str:
        """Waits for the coordinator's address in its output. Raises CommandError if it ends or prints none in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = _ADDRESS.search(self.log.read_text(errors="replace"))
            if found:
                return found.group(1)
            if self.poll() is not None:
                raise CommandError(self.read_last_line() or f"{self.name} ended with status {self.returncode}")
            time.sleep(0.05)
        raise CommandError(f"{self.name} did not start within {seconds:.0f} s; see {self.log}.")


@dataclass(frozen=True)
class DemoOptions:
    """`experiments` is the number to finish; None goes on until Ctrl-C."""

    folder: Path
    seed: str
    port: int
    experiments: int | None

    @property
    def token_file(self) -> Path:
        return self.folder.absolute() / "token"

    @property
    def environment(self) -> dict[str, str]:
        database = f"sqlite:///{self.folder.absolute() / 'coordinator.db'}"
        return {"SWARM_DATABASE_URL": database, "SWARM_TOKEN_FILE": str(self.token_file)}


class _Interrupts:
    """Counts Ctrl-C, SIGTERM and SIGHUP: the first finishes the run under way, the next stops at once."""

    def __init__(self) -> None:
        self.count = 0

    def _count_signal(self, number: int, _frame: FrameType | None) -> None:
        self.count += 1 if number == signal.SIGINT else 2

    @contextmanager
    def caught(self) -> Iterator[None]:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # else `nohup` keeps the demo at work
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._count_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_demo(options: DemoOptions, console: Console) -> int:
    """Runs the demo to its end; returns an exit status. Raises CommandError."""
    interrupts = _Interrupts()
    with interrupts.caught():
        project = _set_up(options)
        serve = ["swarm-coordinator", "serve", "--port", str(options.port)]
        log = options.folder / "coordinator.log"
        with LoggedProcess(*serve, environment=options.environment, log=log) as coordinator:
            url = coordinator.wait_for_address(START_TIMEOUT_SECONDS)
            console.print(f"The swarm is at [bold]{url}[/]  (Ctrl-C stops after this run)")
            with _start_worker(options, url, console) as worker, Client(url) as client:
                return _Demo(options, console, client, project, coordinator, worker, interrupts).watch()


def _set_up(options: DemoOptions) -> str:
    """Creates folder, token and project; returns the project's name."""
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        created = run_command("swarm-coordinator", "create-project", options.seed, environment=options.environment)
        if not options.token_file.exists():
            token = run_command("swarm-coordinator", "create-token", "demo", environment=options.environment)
            with os.fdopen(os.open(options.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(token + "\n")
    except OSError as error:
        raise CommandError(f"cannot write to {options.folder.absolute()}: {error.strerror}") from error
    return created.split(" project ")[1].split()[0]


def _start_worker(options: DemoOptions, url: str, console: Console) -> LoggedProcess:
    sandbox = "auto"
    try:
        run_command("swarm-worker", "sandbox", environment={})
    except CommandError as error:
        sandbox = "unconfined"
        console.print(Text(f"WARNING: {error}", style="bold yellow"))
        console.print(
            "[bold yellow]The demo goes on WITHOUT a sandbox, because its agent changes only constants. "
            "Never do so with other agents.[/]"
        )
    return LoggedProcess(
        "swarm-worker", "run", "--device", "cpu", "--agent", "search", "--coordinator", url, "--name", "demo",
        "--data-dir", str(options.folder.absolute() / "worker"), "--sandbox", sandbox, "--plain",
        environment=options.environment, log=options.folder / "worker.log",
    )  # fmt: skip


class _Demo:
    """Watches a running swarm through its public API."""

    def __init__(
        self, options: DemoOptions, console: Console, client: Client, project: str,
        coordinator: LoggedProcess, worker: LoggedProcess, interrupts: _Interrupts,
    ) -> None:  # fmt: skip
        self._options, self._console, self._client, self._project = options, console, client, project
        self._coordinator, self._worker, self._interrupts = coordinator, worker, interrupts
        progress = client.get_progress(project)
        self._metric = progress.metric
        self._done_before = progress.experiments
        self._seen_runs = progress.runs
        self._is_draining = self._is_anchor = False

    def watch(self) -> int:
        """Shows progress until the experiments are done or the user stops it; returns the exit status."""
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while not self._is_over(self._announce_runs()):
                if self._console.is_terminal:
                    live.update(self._render(), refresh=True)
                self._check_processes()
                self._make_anchor()
                self._forward_interrupts()
                time.sleep(POLL_INTERVAL_SECONDS)
            self._announce_runs()
        self._stop_worker()
        self._print_last_table()
        return INTERRUPTED if self._interrupts.count else 0

    def _is_over(self, experiments: int) -> bool:
        if self._interrupts.count:
            return self._worker.poll() is not None
        return self._options.experiments is not None and experiments >= self._options.experiments

    def _announce_runs(self) -> int:
        """Prints each new run once, with its result. Returns the number of experiments finished in this demo."""
        progress = self._client.get_progress(self._project, self._seen_runs + 1)
        for point in progress.points:
            name = f"experiment {point.experiment_id}" if point.experiment_id else "measurement"
            result = f"{self._metric} {format_run(point.metric)}" if point.metric is not None else str(point.outcome)
            clock = f"{point.finished_at:%H:%M:%S}" if point.finished_at else "--:--:--"
            self._console.print(Text(f"{clock}  {name}: {point.title}: {result}"))
        self._seen_runs = max(self._seen_runs, progress.runs)
        return progress.experiments - self._done_before

    def _check_processes(self) -> None:
        for process in (self._coordinator, self._worker):
            if process.poll() is not None and not self._interrupts.count:
                raise CommandError(f"{process.read_last_line() or process.name + ' ended'}  (log: {process.log})")

    def _make_anchor(self) -> None:
        """Makes the worker an anchor once the coordinator knows it, so that this swarm has a root of trust."""
        if self._is_anchor or self._interrupts.count:
            return
        name = next((worker.name for worker in self._client.list_workers() if worker.volunteer == "demo"), None)
        if name is None:
            return
        try:
            why = "The demo trusts its own worker."
            run_command(
                "swarm-coordinator", "anchor", "demo", name, "--reason", why, environment=self._options.environment
            )
        except CommandError:
            if not self._interrupts.count:  # Ctrl-C reaches that command too
                raise
            return
        self._is_anchor = True
        self._console.print(f"The demo's worker, {name}, is an anchor: its measurements are the root of trust here.")

    def _forward_interrupts(self) -> None:
        if self._interrupts.count == 1 and not self._is_draining:
            self._is_draining = True
            self._console.print("Finishing the run under way, at most half a minute. Ctrl-C again stops now.")
            self._worker.terminate()
        elif self._interrupts.count > 1:
            self._stop_worker()

    def _stop_worker(self) -> None:
        """Stops the worker now; it gives its unfinished job back."""
        while self._worker.poll() is None:
            self._worker.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._worker.wait(1.0)

    def _render(self) -> RenderableType:
        experiments = self._client.list_experiments(self._project, SHOWN_EXPERIMENTS)
        work: RenderableType = Text(self._worker.read_last_line(), style="dim", overflow="ellipsis", no_wrap=True)
        leases = self._client.list_live_leases(self._project)
        if leases:
            work = Table.grid(padding=(0, 1))
            for lease in leases:
                work.add_row(ProgressBar(total=1.0, completed=lease.share, width=20), Text(_describe(lease)))
        return Group(build_experiments_table(experiments, self._metric), Text(""), work)

    def _print_last_table(self) -> None:
        experiments = self._client.list_experiments(self._project, LAST_EXPERIMENTS)[::-1]
        self._console.print(
            Text(""),
            build_experiments_table(experiments, self._metric),
            "± is one standard deviation; n counts runs. With n = 1 an effect is provisional, never a record.\n"
            f"Everything is in {self._options.folder}/; the next `swarm demo` in this folder goes on from here.",
        )


def _describe(lease: LeaseView) -> str:
    what = lease.title or ("a measurement" if not lease.kind.makes_experiment else "an experiment")
    step = f", step {lease.step}" if lease.phase is Phase.TRAINING else ""
    loss = f", loss {lease.loss:.3f}" if lease.loss is not None else ""
    return f"{what} {_PHASES[lease.phase]}{step}{loss}"
