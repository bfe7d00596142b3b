"""Several GPUs: this process starts a worker's process for each, passes signals on, and shows their output.

A worker that fails is started again after a while if it had measured something.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rich.live import Live
from rich.table import Table
from rich.text import Text

from shared.formatting import clean
from worker.api.retry import Backoff
from worker.commands.options import ExitStatus
from worker.loop.stop import Stop
from worker.settings import RunOptions, WorkerSettings
from worker.ui.plain import STOP_AFTER, STOP_NOW
from worker.ui.status import read_status
from worker.ui.terminal import find_terminal

POLL_INTERVAL_SECONDS = 0.2
DRAW_INTERVAL_SECONDS = 1.0

PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>
FINAL_STATUSES = frozenset(ExitStatus) - {ExitStatus.ERROR}
"""Exit statuses after which a worker is not started again."""

WARNINGS = ("level=warning", "level=error", "swarm-worker:")
"""Texts that mark a line as a warning."""

_FLAG_NAMES = {"coordinator_url": "coordinator", "agent_paths": "agent_path"}
"""Flags of settings that have another name."""


class PlainGroupView:
    """Shows each worker's lines with its name before them, on the stream that they came from; for several threads."""

    def __init__(self, messages: TextIO, results: TextIO) -> None:
        self._messages, self._results = messages, results
        self._lock = threading.Lock()

    def show_line(self, worker: str, text: str, *, is_result: bool) -> None:
        stream = self._results if is_result else self._messages
        with self._lock, suppress(OSError):  # its reader may be gone
            stream.write(f"worker={worker} {text}\n")
            stream.flush()

    def refresh(self) -> None:
        """Nothing on the screen changes by itself."""


class TerminalGroupView:
    """Shows a row with the status of each worker, by the name of its folder; results and warnings stand above.

    It is drawn about once a second, and only after a change.
    """

    def __init__(self, live: Live, folders: Mapping[str, Path]) -> None:
        self._live, self._folders = live, folders
        self._lock = threading.Lock()
        self._rows: list[tuple[str, ...]] = []
        self._drawn_at = 0.0

    def show_line(self, worker: str, text: str, *, is_result: bool) -> None:
        if is_result or any(word in text for word in WARNINGS):
            with self._lock, suppress(OSError):  # the terminal may be gone
                self._live.console.print(Text(f"{worker}  {clean(text)}", style="" if is_result else "yellow"))

    def refresh(self) -> None:
        if time.monotonic() < self._drawn_at + DRAW_INTERVAL_SECONDS:
            return
        self._drawn_at = time.monotonic()
        rows = [_describe_worker(name, folder) for name, folder in self._folders.items()]
        if rows != self._rows:
            self._rows = rows
            with self._lock, suppress(OSError):  # the terminal may be gone
                table = Table.grid(padding=(0, 2))
                for style in ("bold", "", "", "dim", "dim"):
                    table.add_column(style=style, no_wrap=True, overflow="ellipsis")
                for row in rows:
                    table.add_row(*row)
                self._live.update(table, refresh=True)


GroupView = PlainGroupView | TerminalGroupView


def _describe_worker(name: str, folder: Path) -> tuple[str, ...]:
    status = read_status(folder)
    if status is None:
        return (name, "starting", "", "", "")
    share = f"{status.share:.0%}" if status.share else ""
    return (name, clean(status.state_text), share, clean(status.trying or status.job or ""), f"{status.runs} runs")


@dataclass
class WorkerProcess:
    """One worker's process. `name` marks its lines; `command` starts it, and starts it again."""

    name: str
    command: Sequence[str]
    process: "subprocess.Popen[str] | None" = None
    status: int | None = None
    has_measured: bool = False
    starts_at: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)
    readers: list[threading.Thread] = field(default_factory=list)


class WorkerGroup:
    """Runs several workers. Call `run` in the main thread: the processes end with the thread that started them."""

    def __init__(self, workers: Sequence[WorkerProcess], view: GroupView, *, restarts: bool) -> None:
        self._workers, self._view, self._restarts = list(workers), view, restarts

    def run(self, stop: Stop) -> int:
        """Work until all workers have ended; return the exit status for all of them."""
        passed_on = 0
        while any(worker.status is None for worker in self._workers):
            asked = stop.draining.is_set() + stop.now.is_set()
            while passed_on < asked:
                passed_on += 1
                for worker in self._workers:
                    if worker.process is not None and worker.process.poll() is None:
                        worker.process.send_signal(signal.SIGTERM)
            for worker in self._workers:
                self._check(worker, draining=bool(asked))
            self._view.refresh()
            time.sleep(POLL_INTERVAL_SECONDS)
        return total_status([worker.status or 0 for worker in self._workers])

    def _check(self, worker: WorkerProcess, *, draining: bool) -> None:
        if worker.status is not None:
            return
        if worker.process is None:
            if draining:
                worker.status = 0
            elif time.monotonic() >= worker.starts_at:
                self._start(worker)
            return
        status = worker.process.poll()
        if status is None:
            return
        while worker.readers:
            worker.readers.pop().join()
        worker.process = None
        if status in FINAL_STATUSES or draining or not self._restarts or not (worker.has_measured or status < 0):
            worker.status = status
            return
        wait = worker.backoff.next_wait()
        worker.starts_at = time.monotonic() + wait
        text = f"swarm-worker: exit status {status}; starting again in {wait:.0f} s"
        self._view.show_line(worker.name, text, is_result=False)

    def _start(self, worker: WorkerProcess) -> None:
        worker.process = subprocess.Popen(  # noqa: S603 - this very program
            worker.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C reaches this process alone, which passes it on once
        )
        assert worker.process.stdout is not None and worker.process.stderr is not None
        for source, is_result in ((worker.process.stdout, True), (worker.process.stderr, False)):
            reader = threading.Thread(target=self._read, args=(worker, source, is_result), daemon=True)
            worker.readers.append(reader)
            reader.start()

    def _read(self, worker: WorkerProcess, source: TextIO, is_result: bool) -> None:
        """Show the lines of a pipe. Each line on stdout is the result of a run."""
        with source:
            for line in source:
                if is_result:
                    worker.has_measured = True
                    worker.backoff.reset()
                self._view.show_line(worker.name, line.rstrip("\n"), is_result=is_result)


def run_group(settings: WorkerSettings, devices: Sequence[str], flags: Mapping[str, Any], options: RunOptions) -> int:
    """Run one worker for each device until all have ended; return the exit status. Each checks its own settings."""
    cores = settings.cores or max(1, len(os.sched_getaffinity(0)) // len(devices))
    names = {device: device.replace("cuda:", "gpu") for device in devices}
    folders = {names[device]: settings.model_copy(update={"device": device}).worker_folder for device in devices}
    workers = [
        WorkerProcess(names[device], worker_command({**flags, "device": device, "cores": cores}, options))
        for device in devices
    ]
    stop, restarts = Stop(), not options.once and options.max_jobs is None
    with ExitStack() as stack:
        console = None if options.plain else find_terminal(no_color=options.no_color)
        view: GroupView = PlainGroupView(sys.stderr, sys.stdout)
        if console is not None:
            view = TerminalGroupView(stack.enter_context(Live(console=console, auto_refresh=False)), folders)

        def show_stop() -> None:
            sys.stderr.write(f"swarm-worker: {STOP_NOW if stop.now.is_set() else STOP_AFTER}\n")

        stack.enter_context(stop.on_signals(show_stop))
        return WorkerGroup(workers, view, restarts=restarts).run(stop)


def total_status(statuses: Sequence[int]) -> int:
    """One exit status for several: "nothing to do" only if that holds for all, else the largest."""
    if set(statuses) == {ExitStatus.NOTHING_TO_DO}:
        return ExitStatus.NOTHING_TO_DO
    failures = [status for status in statuses if status != ExitStatus.NOTHING_TO_DO]
    return max(128 - status if status < 0 else status for status in failures)


def worker_command(flags: Mapping[str, Any], options: RunOptions) -> list[str]:
    """The command that starts one worker with these flags as a child of this process."""
    words = [sys.executable, "-m", "worker.cli", "run", "--plain", "--parent", str(os.getpid())]
    for name, value in {**flags, **asdict(options)}.items():
        option = "--" + _FLAG_NAMES.get(name, name).replace("_", "-")
        if name in ("plain", "parent") or value is None or value is False:
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [option] if one is True else [option, str(one)]
    return words


def end_with_parent(parent: int, stop: Callable[[], None]) -> None:
    """Let this process receive SIGTERM when its parent ends; call `stop` if the parent has ended already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        stop()
