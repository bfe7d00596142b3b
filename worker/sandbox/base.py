"""Types that all sandboxes share.

Besides its folder, a sandboxed process gets open descriptors only; nothing is handed over by path.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from shared.runs import RunLimit

MIB = 1024 * 1024


class SandboxUnavailable(RuntimeError):
    """The sandbox cannot be used on this machine; the message is one line with reason and remedy."""


@dataclass(frozen=True)
class Gpu:
    """One GPU: its UUID, and the number of its device node (None under WSL, which has none)."""

    uuid: str
    minor: int | None = None


@dataclass(frozen=True)
class ProcessLimits:
    """Limits of one sandboxed process together with its children.

    `disk_mib` is per scratch file system and per file, `open_files` per process.
    """

    memory_mib: int
    processes: int
    disk_mib: int
    open_files: int = 1024


@dataclass(frozen=True)
class SandboxRequest:
    """A process to start.

    `folder` becomes the working folder, read-only; `descriptors` stay open under their numbers; `cores` are its CPU
    cores (None: all of the worker's); `device` is `cpu` or `cuda:0`, the sandbox's only visible GPU. With
    `counts_cpu_time` no process can keep CPU time of its children from being counted; handlers of SIGCHLD then have no
    effect.
    """

    argv: tuple[str, ...]
    limits: ProcessLimits
    folder: Path
    descriptors: tuple[int, ...] = ()
    cores: frozenset[int] | None = None
    device: str = "cpu"
    counts_cpu_time: bool = False


@dataclass(frozen=True)
class ProcessOutcome:
    """The end of a sandboxed process.

    `exit_status` is None if `signal` ended it. `killed_for` is a clause such as `it used more than 512 MiB of memory`,
    or empty. `peak_memory_mib` is the largest observed resident memory of the whole process tree.
    """

    exit_status: int | None
    signal: int | None
    killed_for: str
    peak_memory_mib: int
    log_tail: str


class CpuSeconds(NamedTuple):
    """Two sums of CPU time, between which the true one lies; see cpu_time.py."""

    least: float
    most: float


class SandboxedProcess(Protocol):
    """A running process of a sandbox. The tail of its output (stdout and stderr) is captured."""

    def wait(self, timeout: float) -> ProcessOutcome | None:
        """The outcome, or None if the process still runs after `timeout` seconds."""

    def kill(self, print_stacks: bool = False) -> ProcessOutcome:
        """End the process and all its descendants at once. Idempotent.

        With `print_stacks`, they first get SIGQUIT and a moment in which a harness prints its stack.
        """

    @property
    def peak_memory_mib(self) -> int:
        """Largest observed resident memory of the process tree, in MiB."""

    def cpu_seconds(self) -> CpuSeconds:
        """CPU time of all its processes so far, ended ones included; after the end only if the request counts it."""


class Sandbox(Protocol):
    """Starts processes that may run strangers' code."""

    name: str
    """Shown to people and stored with each run."""

    limits: tuple[RunLimit, ...]
    """Stored with each run."""

    def start(self, request: SandboxRequest) -> SandboxedProcess:
        """Start a process, which is killed when the calling thread ends. Raises SandboxUnavailable."""


CONFINED_LIMITS: tuple[RunLimit, ...] = (
    RunLimit.SYSTEM_CALLS_FILTERED,
    RunLimit.CORES_HELD,
    RunLimit.MEMORY_WATCHED_BY_WORKER,
)
"""Limits that hold in every sandbox that confines its processes."""

TRIAL_SECONDS = 30.0
"""Time for the interpreter to start in a trial of a sandbox."""


def try_sandbox(sandbox: Sandbox, program: str = "print('works')") -> str:
    """Run a program that prints `works` in the sandbox; returns its last line if that fails, else an empty text.

    Raises SandboxUnavailable if it does not even start.
    """
    limits = ProcessLimits(memory_mib=512, processes=16, disk_mib=16)
    argv = (sys.executable, "-I", "-c", program)
    process = sandbox.start(SandboxRequest(argv, limits, folder=Path(__file__).parent))
    outcome = process.wait(TRIAL_SECONDS) or process.kill()
    last = outcome.log_tail.rpartition("\n")[2]
    if outcome.exit_status == 0 and last == "works":
        return ""
    return last or f"signal {outcome.signal}"
