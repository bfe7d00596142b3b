"""The sandbox of an agent's command: a coding tool that the volunteer chose, reading what strangers wrote.

It needs what a training run must never have: the network, and the few paths and variables that the volunteer names
(its program, its own login). It sees besides only the system's programs, a folder to work in, and a brief to read. The
rest of the home, other processes, /etc beyond what names and certificates need, and the worker's own keys are not
there.

What it does NOT cover, besides what worker/sandbox/bubblewrap.py names:
 * The network: a tool that obeys a hostile text can send what it can read anywhere, so name as little as possible.
   That includes listeners of this machine, its abstract unix sockets among them.
 * The user: it runs as the volunteer, because a login's files are theirs alone; as root, the limit on processes
   does not hold. Paths named with `:rw` can be changed for good.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.sandbox.base import ProcessLimits, SandboxedProcess, SandboxRequest, SandboxUnavailable
from worker.sandbox.bubblewrap import INSTALL_HINT
from worker.sandbox.confinement import SYSTEM_FOLDERS, threads_of_user
from worker.sandbox.process import MIB, ConfinedProcess, LaunchPlan, resource_limits

NETWORK_FILES = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/pki", "/etc/ca-certificates",
    "/etc/alternatives", "/etc/ld.so.cache",
)  # fmt: skip
LIMITS = ProcessLimits(memory_mib=8192, processes=512, disk_mib=256, open_files=4096)
WORK, BRIEF, ANSWER = "/swarm/work", "/swarm/brief", "/swarm/answer"
"""Where the command finds its folders."""


@dataclass(frozen=True)
class Mount:
    """A path of the volunteer's that the command may read, and change where `writable`."""

    path: Path
    writable: bool = False


@dataclass(frozen=True)
class ToolRun:
    """A command to run: `folder` holds `work`, `brief` (read-only inside) and `answer`."""

    argv: Sequence[str]
    folder: Path
    home: Path
    environment: Mapping[str, str]
    mounts: Sequence[Mount]


def start_tool(run: ToolRun, uid: int) -> SandboxedProcess:
    """Start it, for the user `uid`, who is this process's. Raises SandboxUnavailable."""
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxUnavailable(f"bubblewrap is not installed: {INSTALL_HINT}")
    request = SandboxRequest(tuple(run.argv), LIMITS, run.folder, device="none")
    plan = LaunchPlan(
        argv=(program, *_options(run), "--", *run.argv),
        rlimits=resource_limits(request, other_processes=threads_of_user(uid)),
    )
    return ConfinedProcess(plan.command(), request, environment={}, folder=Path("/"))


def _options(run: ToolRun) -> Iterator[str]:
    """bubblewrap's command line up to the program. A later mount covers an earlier one."""
    yield from ("--unshare-all", "--share-net", "--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000")
    yield from ("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv")
    for name, value in run.environment.items():
        yield from ("--setenv", name, value)
    size = str(LIMITS.disk_mib * MIB)
    yield from ("--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/tmp")  # noqa: S108 - inside
    for folder in SYSTEM_FOLDERS:
        if Path(folder).is_symlink():
            yield from ("--symlink", str(Path(folder).readlink()), folder)
        elif Path(folder).exists():
            yield from ("--ro-bind", folder, folder)
    for path in NETWORK_FILES:
        yield from ("--ro-bind-try", path, path)
    yield from ("--size", size, "--tmpfs", str(run.home))
    for mount in run.mounts:
        yield from ("--bind" if mount.writable else "--ro-bind", str(mount.path), str(mount.path))
    yield from ("--bind", str(run.folder / "work"), WORK, "--bind", str(run.folder / "answer"), ANSWER)
    yield from ("--ro-bind", str(run.folder / "brief"), BRIEF)
    yield from ("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORK)
