"""A sandboxed process while it runs: starting it through the launcher, its output, its memory, its end."""

import codecs
import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from worker.sandbox.base import ProcessLimits, ProcessOutcome, SandboxRequest
from worker.sandbox.container_socket import ContainerSocket
from worker.sandbox.launcher import SHELL_SIGNAL_BASE

LAUNCHER = Path(__file__).with_name("launcher.py")
MIB = 1024 * 1024

LOG_LINES, LOG_LINE_CHARACTERS = 50, 390
LOG_CHUNK_BYTES, LOG_PAUSE_SECONDS = 65_536, 0.01
"""A process that floods its log is read at 6 MB/s at most; its own writes then wait."""

WATCH_SECONDS = 0.25
FREE_MEMORY_FLOOR_MIB = 256
"""Below this much memory available on the whole machine a sandboxed process is ended: what it holds in files in
memory belongs to no process, so that the resident memory of its tree does not show it."""

ANSWER_SECONDS = 2.0
"""How long a process that is asked where it is may take to say so."""

OVERDRAFT_MIB = 1024
"""By how much the memory of what is asked where it is may grow meanwhile."""

END_SECONDS = 5.0
"""The kernel may take a moment to take down large processes."""

ADDRESS_SPACE_ALLOWANCE_MIB = 8192
"""Address space granted beyond the memory limit: libraries, 8 MiB of stack and a 64 MiB arena per thread, and
shared memory are mapped without being used. The watchdog holds the memory limit itself."""


@dataclass(frozen=True)
class LaunchPlan:
    """What the launcher is to do before it becomes `argv`. `aliases` is source -> path below its ALIAS_FOLDER."""

    argv: tuple[str, ...]
    rlimits: Mapping[str, int]
    uid: int | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    cores: tuple[int, ...] = ()
    parent: int = field(default_factory=os.getpid)

    def command(self) -> list[str]:
        """How to start it, through the launcher."""
        return [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(asdict(self))]


def resource_limits(request: SandboxRequest, other_processes: int = 0) -> dict[str, int]:
    """The rlimits of a request; `other_processes` of the same user count against RLIMIT_NPROC, so they are added."""
    limits = request.limits
    rlimits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_FSIZE": limits.disk_mib * MIB,
        "RLIMIT_NPROC": limits.processes + other_processes,
    }
    if request.device == "cpu":  # CUDA reserves far more address space than any sensible limit
        rlimits["RLIMIT_AS"] = (limits.memory_mib + ADDRESS_SPACE_ALLOWANCE_MIB) * MIB
    return rlimits


class LogTail:
    """The last lines of an output that may be endless and is not to be trusted."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._open = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, chunk: bytes) -> None:
        """Take the next bytes; a carriage return starts a new line, as a progress bar means it."""
        text = self._open + self._decoder.decode(chunk).replace("\r", "\n")
        *lines, self._open = text.split("\n")
        self._open = self._open[:LOG_LINE_CHARACTERS]
        self._lines.extend(line[:LOG_LINE_CHARACTERS] for line in lines if line)

    def text(self) -> str:
        """The lines, with what a terminal or a database would stumble over replaced."""
        lines = list(self._lines) + ([self._open] if self._open else [])
        return "\n".join(
            "".join(c if c.isprintable() or c == "\t" else "�" for c in line) for line in lines[-LOG_LINES:]
        )


class ConfinedProcess:
    """Implements `SandboxedProcess` for every command that confines what it starts."""

    def __init__(
        self,
        command: Sequence[str],
        request: SandboxRequest,
        environment: Mapping[str, str] | None,
        folder: Path,
        on_end: Callable[[], None] = lambda: None,
        container: ContainerSocket | None = None,
    ) -> None:
        """Start `command` in `folder`, with the worker's own environment if none is given; `on_end` is called once."""
        self._limits: ProcessLimits = request.limits
        self._argv = [*request.argv]
        self._on_end = on_end
        self._container = container
        self._log = LogTail()
        self._killed_for = ""
        self._peak_mib = 0
        self._ended = threading.Event()
        self._outcome: ProcessOutcome | None = None
        self._kill_lock = threading.Lock()
        log, log_writer = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - confining what runs is what this is for
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_writer,
                stderr=log_writer,
                pass_fds=request.descriptors,
                env=None if environment is None else dict(environment),
                cwd=folder,
                start_new_session=True,
            )
        except OSError:
            os.close(log)
            raise
        finally:
            os.close(log_writer)
        self._watcher = threading.Thread(target=self._watch, args=(log,), name="sandbox-watch", daemon=True)
        self._watcher.start()

    @property
    def peak_memory_mib(self) -> int:
        return self._peak_mib

    def wait(self, timeout: float) -> ProcessOutcome | None:
        self._ended.wait(timeout)
        return self._outcome

    def kill(self, ask_where: bool = False) -> ProcessOutcome:
        self._end_all("", ask_where)
        self._watcher.join()
        assert self._outcome is not None
        return self._outcome

    def _watch(self, log: int) -> None:
        """Drain the log and hold the memory limit until the process has ended, then end what it left behind."""
        look_again = 0.0
        exit_watch = os.pidfd_open(self._process.pid)
        os.set_blocking(log, False)
        poller = select.poll()
        poller.register(log, select.POLLIN)
        poller.register(exit_watch, select.POLLIN)
        while exit_watch not in (ready := [fd for fd, _ in poller.poll(WATCH_SECONDS * 1000)]):
            if log in ready and not self._drain(log):
                poller.unregister(log)
            if time.monotonic() >= look_again:
                self._watch_memory()
                look_again = time.monotonic() + WATCH_SECONDS
        self._end_all("")  # before it is reaped, so that its group's number is still its own
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(log, LOG_CHUNK_BYTES):  # ends: all writers are gone, and a pipe holds 64 KiB
                self._log.add(chunk)
        os.close(log)
        os.close(exit_watch)
        status = self._process.wait()
        ended_by = -status if status < 0 else status - SHELL_SIGNAL_BASE
        self._outcome = ProcessOutcome(
            exit_status=status if ended_by <= 0 else None,
            signal=ended_by if ended_by > 0 else None,
            killed_for=self._killed_for or (self._container.explain_end() if self._container else ""),
            peak_memory_mib=self._peak_mib,
            log_tail=self._log.text(),
        )
        self._on_end()
        self._ended.set()

    def _drain(self, log: int) -> bool:
        """Read what is there; False once all writers have closed it."""
        chunk = os.read(log, LOG_CHUNK_BYTES)
        self._log.add(chunk)
        if len(chunk) == LOG_CHUNK_BYTES:
            time.sleep(LOG_PAUSE_SECONDS)
        return bool(chunk)

    def _inside(self) -> Iterator[psutil.Process]:
        """The processes that count against the limits: those of the container, or all below the guard."""
        return _trees(self._container.list_pids()) if self._container else _descendants(self._process.pid)

    def _used_mib(self) -> int:
        return sum(_resident_bytes(process) for process in self._inside()) // MIB

    def _watch_memory(self) -> None:
        used = self._used_mib()
        self._peak_mib = max(self._peak_mib, used)
        if used > self._limits.memory_mib:
            self._end_all(f"it used more than {self._limits.memory_mib} MiB of memory", ask_where=True)
        elif psutil.virtual_memory().available < FREE_MEMORY_FLOOR_MIB * MIB:
            self._end_all("this machine ran out of memory")

    def _ask_where(self) -> None:
        """Let the processes print where they are, which ends them, unless they have other plans."""
        asked: list[psutil.Process] = []
        for process in self._inside():
            with contextlib.suppress(psutil.Error):
                if process.cmdline() == self._argv:  # a program around it would end it, and say nothing
                    process.send_signal(signal.SIGQUIT)
                    asked.append(process)
        deadline, most = time.monotonic() + ANSWER_SECONDS, self._used_mib() + OVERDRAFT_MIB
        while any(_is_alive(process) for process in asked) and time.monotonic() < deadline:
            if self._used_mib() > most or psutil.virtual_memory().available < FREE_MEMORY_FLOOR_MIB * MIB:
                return
            time.sleep(0.01)

    def _end_all(self, reason: str, ask_where: bool = False) -> None:
        """Kill the group and every descendant, and wait until the descendants are gone."""
        with self._kill_lock:
            if self._outcome is not None:
                return
            self._killed_for = self._killed_for or reason
            if ask_where:
                self._ask_where()
            deadline = time.monotonic() + END_SECONDS
            if self._container is None:
                self._ask_guard(deadline)
            descendants = [*_descendants(self._process.pid)]
            if self._container:
                descendants += _trees(self._container.list_pids())
                self._container.end()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            for process in descendants:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            while any(_is_alive(process) for process in descendants) and time.monotonic() < deadline:
                time.sleep(0.005)

    def _ask_guard(self, deadline: float) -> None:
        """Let the guard end all that descends from it, which it does without missing what has just been forked."""
        with contextlib.suppress(psutil.Error):
            guard = psutil.Process(self._process.pid)
            guard.terminate()
            while _is_alive(guard) and time.monotonic() < deadline:
                time.sleep(0.005)


def _trees(roots: Iterable[int]) -> Iterator[psutil.Process]:
    """The processes of these numbers, as far as they are there, and all that descend from them."""
    for pid in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            yield root
            yield from root.children(recursive=True)


def _descendants(pid: int) -> Iterator[psutil.Process]:
    return itertools.islice(_trees([pid]), 1, None)


def _is_alive(process: psutil.Process) -> bool:
    """Whether it still runs. A zombie does not: it waits for a parent, which may be slow to look."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has just ended
        return 0
