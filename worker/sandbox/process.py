"""A running sandboxed process: start through the launcher, output, memory watchdog, end."""

import codecs
import contextlib
import itertools
import marshal
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from worker.sandbox.base import MIB, CpuSeconds, ProcessLimits, ProcessOutcome, SandboxRequest
from worker.sandbox.container_socket import ContainerSocket
from worker.sandbox.control_group import MemoryGroup
from worker.sandbox.cpu_time import CpuTime, list_trees
from worker.sandbox.launcher import SHELL_SIGNAL_BASE
from worker.sandbox.memory_use import read_use, scratch_bytes, uncounted_bytes

LAUNCHER = Path(__file__).with_name("launcher.py")

LOG_LINES, LOG_LINE_CHARACTERS = 50, 390
LOG_CHUNK_BYTES, LOG_PAUSE_SECONDS = 65_536, 0.01
"""Limits the log to 6 MB/s; the writes of a process that floods it then wait."""

WATCH_INTERVAL_SECONDS = 0.25
FREE_MEMORY_FLOOR_MIB = 256
"""A sandboxed process is ended if the machine has less memory available: its files in memory count for no process, so
the resident memory of its tree does not show them."""

STACK_TIMEOUT_SECONDS = 2.0
"""Time for a process to print its stack after SIGQUIT."""

STACK_GROWTH_MIB = 1024
"""Growth of its memory that is tolerated meanwhile."""

KILL_TIMEOUT_SECONDS = 5.0
"""Time for the kernel to end large processes."""

LATER_THREADS = 512
"""Threads that the user's other programs may start during a run: the kernel counts them with those of the run."""

OWN_THREADS = 4
"""Threads of bubblewrap and of engines, beside those of the program."""

MOST_TIMERS = 1024
"""Timers and queued signals of a sandbox's user, whose memory counts for no process."""

ADDRESS_SPACE_ALLOWANCE_MIB = 8192
"""Address space beyond the memory limit for mappings that are not resident: libraries, 8 MiB of stack and a 64 MiB
arena per thread, shared memory. The watchdog enforces the memory limit itself."""


@dataclass(frozen=True)
class LaunchPlan:
    """Input of the launcher, which becomes `argv`. `aliases`: source -> path below its ALIAS_FOLDER.

    `groups` are the user's of that `uid`. `group` is the folder of a control group to enter.
    """

    argv: tuple[str, ...]
    rlimits: Mapping[str, int]
    uid: int | None = None
    groups: tuple[int, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    cores: tuple[int, ...] = ()
    group: str = ""
    parent: int = field(default_factory=os.getpid)

    def command(self) -> list[str]:
        """The command line that starts it through the launcher."""
        plan = asdict(self)
        argv = plan.pop("argv")
        return [sys.executable, "-I", "-S", str(LAUNCHER), marshal.dumps(plan).hex(), *argv]


def resource_limits(request: SandboxRequest, other_processes: int = 0) -> dict[str, int]:
    """The rlimits of a request.

    `other_processes` of the same user count against RLIMIT_NPROC, so they are added, and room for others: there the
    worker counts the sandbox's own.
    """
    limits = request.limits
    others = other_processes + LATER_THREADS if other_processes else 0
    rlimits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_FSIZE": limits.disk_mib * MIB,
        "RLIMIT_NPROC": limits.processes + others,
        "RLIMIT_SIGPENDING": MOST_TIMERS,
        "RLIMIT_RTPRIO": 0,  # some users may run before all others, as for sound
        "RLIMIT_NICE": 0,
    }
    if request.device == "cpu":  # CUDA reserves far more address space than any sensible limit
        rlimits["RLIMIT_AS"] = (limits.memory_mib + ADDRESS_SPACE_ALLOWANCE_MIB) * MIB
    return rlimits


class LogTail:
    """The last lines of an untrusted, possibly endless output."""

    def __init__(self, lines: int = LOG_LINES, line_characters: int = LOG_LINE_CHARACTERS) -> None:
        self._lines: deque[str] = deque(maxlen=lines)
        self._most, self._line_characters = lines, line_characters
        self._open = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, chunk: bytes) -> None:
        """Add bytes; a carriage return starts a new line, because of progress bars."""
        text = self._open + self._decoder.decode(chunk).replace("\r", "\n")
        *lines, self._open = text.split("\n")
        self._open = self._open[: self._line_characters]
        self._lines.extend(line[: self._line_characters] for line in lines if line)

    def text(self) -> str:
        """The lines, with unprintable characters replaced."""
        lines = list(self._lines) + ([self._open] if self._open else [])
        return "\n".join(
            "".join(c if c.isprintable() or c == "\t" else "�" for c in line) for line in lines[-self._most :]
        )


class ConfinedProcess:
    """Implements `SandboxedProcess` for a command that confines the program it starts."""

    def __init__(
        self,
        command: Sequence[str],
        request: SandboxRequest,
        environment: Mapping[str, str] | None,
        folder: Path,
        on_end: Callable[[], None] = lambda: None,
        container: ContainerSocket | None = None,
        descriptors: Sequence[int] = (),
        group: MemoryGroup | None = None,
        standard_input: int = subprocess.DEVNULL,
        log: LogTail | None = None,
        scratch: Path | None = None,
    ) -> None:
        """Start `command` in `folder`; None as `environment` is the worker's own; `on_end` is called once.

        `descriptors` stay open besides those of the request; `log` keeps the output. What `scratch`, a folder on the
        disk, holds is limited.
        """
        self._limits: ProcessLimits = request.limits
        self._counts_cpu_time = request.counts_cpu_time
        self._argv = [*request.argv]
        self._on_end = on_end
        self._container, self._group, self._scratch = container, group, scratch
        self._log = log or LogTail()
        self._killed_for = ""
        self._peak_mib = 0
        self._ended = threading.Event()
        self._outcome: ProcessOutcome | None = None
        self._kill_lock = threading.Lock()
        output, output_writer = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - confining what runs is what this is for
                command,
                stdin=standard_input,
                stdout=output_writer,
                stderr=output_writer,
                pass_fds=(*request.descriptors, *descriptors),
                env=None if environment is None else dict(environment),
                cwd=folder,
                start_new_session=True,
            )
        except OSError:
            os.close(output)
            raise
        finally:
            os.close(output_writer)
        self._cpu_time = CpuTime(container.list_pids if container else lambda: [self._process.pid])
        self._watcher = threading.Thread(target=self._watch, args=(output,), name="sandbox-watch", daemon=True)
        self._watcher.start()

    @property
    def peak_memory_mib(self) -> int:
        return self._peak_mib

    def cpu_seconds(self) -> CpuSeconds:
        return self._cpu_time.read() if self._outcome is None else self._cpu_time.last

    def wait(self, timeout: float) -> ProcessOutcome | None:
        return self._outcome if self._ended.wait(timeout) else None

    def kill(self, print_stacks: bool = False) -> ProcessOutcome:
        self._end_all("", print_stacks)
        self._watcher.join()
        assert self._outcome is not None
        return self._outcome

    def _watch(self, log: int) -> None:
        """Drain the log and enforce the limits until the process ends, or an error; then end its descendants."""
        reason = "its limits could not be watched"
        try:
            self._follow(log)
            reason = ""
        finally:
            self._conclude(log, reason)

    def _follow(self, log: int) -> None:
        look_again = 0.0
        os.set_blocking(log, False)
        poller = select.poll()
        poller.register(log, select.POLLIN)
        with os.fdopen(os.pidfd_open(self._process.pid), "rb") as exit_watch:
            poller.register(exit_watch, select.POLLIN)
            while exit_watch.fileno() not in (ready := [fd for fd, _ in poller.poll(WATCH_INTERVAL_SECONDS * 1000)]):
                if log in ready and not self._drain(log):
                    poller.unregister(log)
                if time.monotonic() >= look_again:
                    self._watch_use()
                    look_again = time.monotonic() + WATCH_INTERVAL_SECONDS

    def _conclude(self, log: int, reason: str) -> None:
        self._end_all(reason)  # before it is reaped, so its group's number is still its own
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(log, LOG_CHUNK_BYTES):  # terminates: no writers are left, and a pipe holds 64 KiB
                self._log.add(chunk)
        os.close(log)
        if self._counts_cpu_time:
            self._cpu_time.read()  # while the guard still stands for all
        status = self._process.wait()
        ended_by = -status if status < 0 else status - SHELL_SIGNAL_BASE
        kernel = self._container or self._group
        self._outcome = ProcessOutcome(
            exit_status=status if ended_by <= 0 else None,
            signal=ended_by if ended_by > 0 else None,
            killed_for=self._killed_for or (kernel.explain_end() if kernel else ""),
            peak_memory_mib=self._peak_mib,
            log_tail=self._log.text(),
        )
        try:
            if self._group:
                self._group.remove()
            self._on_end()
        finally:
            self._ended.set()

    def _drain(self, log: int) -> bool:
        """Read the available bytes; False once all writers have closed the log."""
        chunk = os.read(log, LOG_CHUNK_BYTES)
        self._log.add(chunk)
        if len(chunk) == LOG_CHUNK_BYTES:
            time.sleep(LOG_PAUSE_SECONDS)
        return bool(chunk)

    def _inside(self) -> Iterator[psutil.Process]:
        """The processes that count against the limits: the container's, or all below the guard."""
        return list_trees(self._container.list_pids()) if self._container else _descendants(self._process.pid)

    def _used_mib(self) -> int:
        return sum(read_use(process.pid).bytes for process in self._inside()) // MIB

    def _watch_use(self) -> None:
        processes = [process.pid for process in self._inside()]
        uses = [read_use(pid) for pid in processes]
        used = sum(use.bytes for use in uses)
        self._peak_mib = max(self._peak_mib, used // MIB)
        if sum(use.threads for use in uses) > self._limits.processes + OWN_THREADS:
            self._end_all(f"it had more than {self._limits.processes} threads and processes")
        elif used + uncounted_bytes(processes, self._limits) > self._limits.memory_mib * MIB:
            self._end_all(f"it used more than {self._limits.memory_mib} MiB of memory", print_stacks=True)
        elif self._scratch and scratch_bytes(self._scratch, processes) > self._limits.disk_mib * MIB:
            self._end_all(f"it wrote more than {self._limits.disk_mib} MiB of files")
        elif psutil.virtual_memory().available < FREE_MEMORY_FLOOR_MIB * MIB:
            self._end_all("this machine ran out of memory")

    def _request_stacks(self) -> None:
        """Ask the processes to print their stacks, which normally ends them."""
        asked: list[psutil.Process] = []
        for process in self._inside():
            with contextlib.suppress(psutil.Error):
                if process.cmdline() == self._argv:  # a wrapper program would end without a stack
                    process.send_signal(signal.SIGQUIT)
                    asked.append(process)
        deadline, most = time.monotonic() + STACK_TIMEOUT_SECONDS, self._used_mib() + STACK_GROWTH_MIB
        while any(_is_alive(process) for process in asked) and time.monotonic() < deadline:
            if self._used_mib() > most or psutil.virtual_memory().available < FREE_MEMORY_FLOOR_MIB * MIB:
                return
            time.sleep(0.01)

    def _end_all(self, reason: str, print_stacks: bool = False) -> None:
        """Kill the group and every descendant, and wait until the descendants are gone."""
        with self._kill_lock:
            if self._outcome is not None:
                return
            self._killed_for = self._killed_for or reason
            if print_stacks:
                self._request_stacks()
            deadline = time.monotonic() + KILL_TIMEOUT_SECONDS
            if self._container is None:
                self._ask_guard(deadline)
            descendants = [*_descendants(self._process.pid)]
            if self._container:
                descendants += list_trees(self._container.list_pids())
                self._container.end()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            for process in descendants:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            while any(_is_alive(process) for process in descendants) and time.monotonic() < deadline:
                time.sleep(0.005)

    def _ask_guard(self, deadline: float) -> None:
        """Ask the guard to end its descendants, including those that are just being forked."""
        with contextlib.suppress(psutil.Error):
            guard = psutil.Process(self._process.pid)
            guard.terminate()
            while _is_alive(guard) and time.monotonic() < deadline:
                time.sleep(0.005)


def _descendants(pid: int) -> Iterator[psutil.Process]:
    return itertools.islice(list_trees([pid]), 1, None)


def _is_alive(process: psutil.Process) -> bool:
    """Whether the process still runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
