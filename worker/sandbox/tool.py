"""The sandbox of a coding tool that the volunteer chose, and which reads texts by strangers.

Unlike a training run it has the network, and the paths and variables that the volunteer names (its program, its own
login). Otherwise it sees only the system's programs, a work folder, and a brief. The rest of the home, other processes,
most of /etc, and the worker's keys are hidden.

Not covered, besides the list in worker/sandbox/bubblewrap.py:
 * The network: a tool that obeys a hostile text can send everything it can read anywhere, including listeners and
   abstract unix sockets of this machine. Name as few paths as possible.
 * The user: the tool runs as the volunteer, who owns the login's files; as root, the limit on processes does not
   hold. Paths named with `:rw` can be changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.sandbox.base import ProcessLimits, SandboxedProcess, SandboxRequest
from worker.sandbox.bubblewrap import find_program, isolation_options, readable_pipe
from worker.sandbox.confinement import SYSTEM_FOLDERS, find_links, threads_of_user
from worker.sandbox.process import MIB, ConfinedProcess, LaunchPlan, resource_limits
from worker.sandbox.seccomp import filter_of_tool

NETWORK_FILES = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/pki", "/etc/ca-certificates",
    "/etc/alternatives", "/etc/ld.so.cache",
)  # fmt: skip
LIMITS = ProcessLimits(memory_mib=8192, processes=512, disk_mib=256, open_files=4096)
WORK, BRIEF, ANSWER = "/swarm/work", "/swarm/brief", "/swarm/answer"
"""The command's folders, as paths inside the sandbox."""


@dataclass(frozen=True)
class Mount:
    """A path of the volunteer's that the command may read, and change if `writable`."""

    path: Path
    writable: bool = False


@dataclass(frozen=True)
class ToolRun:
    """A command to run. `folder` contains `work`, `brief` (read-only inside) and `answer`."""

    argv: Sequence[str]
    folder: Path
    home: Path
    environment: Mapping[str, str]
    mounts: Sequence[Mount]


def start_tool(run: ToolRun, uid: int) -> SandboxedProcess:
    """Start a tool as this process's user `uid`. Raises SandboxUnavailable."""
    request = SandboxRequest(tuple(run.argv), LIMITS, run.folder, device="none")
    with readable_pipe(filter_of_tool()) as system_calls:
        plan = LaunchPlan(
            argv=(find_program(), *_options(run), "--seccomp", str(system_calls), "--", *run.argv),
            rlimits=resource_limits(request, other_processes=threads_of_user(uid)),
        )
        return ConfinedProcess(plan.command(), request, environment={}, folder=Path("/"), descriptors=(system_calls,))


def _options(run: ToolRun) -> Iterator[str]:
    """bubblewrap's command line up to the program. A later mount covers an earlier one."""
    yield from (*isolation_options(run.environment), "--share-net")
    size = str(LIMITS.disk_mib * MIB)
    yield from ("--size", size, "--tmpfs", "/tmp")  # noqa: S108 - inside
    links = dict(find_links())
    for path in (*SYSTEM_FOLDERS, *NETWORK_FILES):
        yield from ("--symlink", links[path], path) if path in links else ("--ro-bind-try", path, path)
    yield from ("--size", size, "--tmpfs", str(run.home))
    for mount in run.mounts:
        yield from ("--bind" if mount.writable else "--ro-bind", str(mount.path), str(mount.path))
    yield from ("--bind", str(run.folder / "work"), WORK, "--bind", str(run.folder / "answer"), ANSWER)
    yield from ("--ro-bind", str(run.folder / "brief"), BRIEF)
    yield from ("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORK)
