"""What a sandbox is asked for and what it answers: the types every implementation shares.

Everything a sandboxed process gets besides its folder is an open descriptor; nothing is handed over by path.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class SandboxUnavailable(RuntimeError):
    """The sandbox asked for cannot be used on this machine; the message is one line: why, and what to do."""


@dataclass(frozen=True)
class Gpu:
    """One GPU: its UUID, and the number of its device node (None where the system has none, as under WSL)."""

    uuid: str
    minor: int | None = None


@dataclass(frozen=True)
class ProcessLimits:
    """What one sandboxed process, with all its children together, may use.

    `disk_mib` bounds each scratch file system and each single file. `open_files` is per process.
    """

    memory_mib: int
    processes: int
    disk_mib: int
    open_files: int = 256


@dataclass(frozen=True)
class SandboxRequest:
    """A process to start.

    `folder` becomes the working folder, read-only; `descriptors` stay open under their numbers; `environment` is
    added to the few variables every sandboxed process gets; `cores` are the CPU cores it may run on (None: all of
    the worker's); `device` is `cpu` or `cuda:0`, the sandbox's GPU, which is the only one that it sees.
    """

    argv: tuple[str, ...]
    limits: ProcessLimits
    folder: Path
    descriptors: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    cores: frozenset[int] | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class ProcessOutcome:
    """How a sandboxed process ended.

    `exit_status` is None where `signal` ended it. `killed_for` is a clause such as `it used more than 512 MiB of
    memory`, or empty. `peak_memory_mib` is the largest resident memory of the whole process tree that was seen.
    """

    exit_status: int | None
    signal: int | None
    killed_for: str
    peak_memory_mib: int
    log_tail: str


class SandboxedProcess(Protocol):
    """A running process of a sandbox. Its output (stdout and stderr) is captured, bounded, in the order it came."""

    def wait(self, timeout: float) -> ProcessOutcome | None:
        """The outcome, or None if it still runs after `timeout` seconds."""

    def kill(self, ask_where: bool = False) -> ProcessOutcome:
        """End the process and all its descendants, at once, and say how it ended. Idempotent.

        With `ask_where`, they first get SIGQUIT and a moment: those of a harness then print where they are.
        """

    @property
    def peak_memory_mib(self) -> int:
        """The largest resident memory of the process tree that was seen so far, in MiB."""


class Sandbox(Protocol):
    """Starts processes that strangers' code may run in."""

    name: str
    """Shown to people and stored with each run."""

    def start(self, request: SandboxRequest) -> SandboxedProcess:
        """Start a process. Call it from a thread that outlives the process: it is killed with that thread.

        Raises SandboxUnavailable if the sandbox has stopped working on this machine.
        """


TRIAL_SECONDS = 30.0
"""Time for the interpreter to start in a sandbox that is tried."""


def try_out(sandbox: Sandbox) -> str:
    """Run the interpreter in the sandbox; empty if that works, else the last thing that was said.

    Raises SandboxUnavailable where it does not even start.
    """
    limits = ProcessLimits(memory_mib=512, processes=16, disk_mib=16)
    argv = (sys.executable, "-I", "-c", "print('works')")
    process = sandbox.start(SandboxRequest(argv, limits, folder=Path(__file__).parent))
    outcome = process.wait(TRIAL_SECONDS) or process.kill()
    last = outcome.log_tail.rpartition("\n")[2]
    if outcome.exit_status == 0 and last == "works":
        return ""
    return last or f"signal {outcome.signal}"
