"""The sandbox of a coding tool that the volunteer chose, and which reads texts by strangers.

Unlike a training run it has the network, and the paths and variables that the volunteer names (its program, its own
login). Otherwise it sees only the system's programs, a work folder, a brief, and a home that is empty but for what was
named. The rest of the home, other processes, most of /etc, and the worker's keys are hidden. /etc/passwd has one user.

Not covered, besides the list in worker/sandbox/bubblewrap.py:
 * The network: a tool that obeys a hostile text can send everything it can read anywhere, including listeners and
   abstract unix sockets of this machine. Name as few paths as possible.
 * The user: the tool runs as the volunteer, who owns the login's files; as root, the limit on processes does not
   hold. Paths named with `:rw` can be changed.
"""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from worker.sandbox.base import MIB, ProcessLimits, SandboxedProcess, SandboxRequest
from worker.sandbox.bubblewrap import find_program, isolation_options, readable_pipe
from worker.sandbox.confinement import SYSTEM_FOLDERS, find_links, threads_of_user
from worker.sandbox.process import ConfinedProcess, LaunchPlan, LogTail, resource_limits
from worker.sandbox.seccomp import filter_of_tool

SYSTEM_FILES = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/pki", "/etc/ca-certificates",
    "/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime",
)  # fmt: skip
USER = "volunteer"
ACCOUNTS = {"/etc/passwd": f"{USER}:x:1000:1000:{USER}:{{home}}:/bin/sh\n", "/etc/group": f"{USER}:x:1000:\n"}
"""Programs ask for the name and the home of their user there."""

SAID_LINES, SAID_LINE_CHARACTERS = 1000, 32_000
"""Of what the tool says so much is kept: an answer in JSON is one long line."""

LIMITS = ProcessLimits(memory_mib=8192, processes=512, disk_mib=256, open_files=4096)
WORK, BRIEF, ANSWER = "/swarm/work", "/swarm/brief", "/swarm/answer"
"""The command's folders, as paths inside the sandbox."""


@dataclass(frozen=True)
class Mount:
    """A path of the volunteer's that the command may read, and change if `writable`; or `source` in its place."""

    path: Path
    writable: bool = False
    source: Path | None = None


@dataclass(frozen=True)
class ToolRun:
    """A command to run. `folder` contains `work`, `brief` (read-only inside), `answer` and `home`.

    `home` is the path of that home inside, `links` are paths to make and what they link to, `standard_input` is a file
    to read from.
    """

    argv: Sequence[str]
    folder: Path
    home: Path
    environment: Mapping[str, str]
    mounts: Sequence[Mount]
    links: Mapping[Path, str] = field(default_factory=dict)
    standard_input: Path | None = None


def start_tool(run: ToolRun, uid: int) -> SandboxedProcess:
    """Start a tool as this process's user `uid`. Raises SandboxUnavailable."""
    request = SandboxRequest(tuple(run.argv), LIMITS, run.folder, device="none")
    with ExitStack() as opened:
        system_calls = opened.enter_context(readable_pipe(filter_of_tool()))
        accounts = {
            path: opened.enter_context(readable_pipe(text.format(home=run.home).encode()))
            for path, text in ACCOUNTS.items()
        }
        given = opened.enter_context(run.standard_input.open("rb")).fileno() if run.standard_input else None
        plan = LaunchPlan(
            argv=(find_program(), *_options(run, accounts), "--seccomp", str(system_calls), "--", *run.argv),
            rlimits=resource_limits(request, other_processes=threads_of_user(uid)),
        )
        return ConfinedProcess(
            plan.command(),
            request,
            environment={},
            folder=Path("/"),
            descriptors=(system_calls, *accounts.values()),
            standard_input=subprocess.DEVNULL if given is None else given,
            log=LogTail(SAID_LINES, SAID_LINE_CHARACTERS),
        )


def _options(run: ToolRun, accounts: Mapping[str, int]) -> Iterator[str]:
    """bubblewrap's command line up to the program. A later mount covers an earlier one.

    `accounts` are files of /etc and the descriptors of what they contain inside.
    """
    yield from (*isolation_options(run.environment), "--share-net")
    size = str(LIMITS.disk_mib * MIB)
    yield from ("--size", size, "--tmpfs", "/tmp")  # noqa: S108 - inside
    links = dict(find_links())
    for path in (*SYSTEM_FOLDERS, *SYSTEM_FILES):
        yield from ("--symlink", links[path], path) if path in links else ("--ro-bind-try", path, path)
    for path, descriptor in accounts.items():
        yield from ("--ro-bind-data", str(descriptor), path)
    yield from ("--bind", str(run.folder / "home"), str(run.home))
    for mount in run.mounts:
        yield from ("--bind" if mount.writable else "--ro-bind", str(mount.source or mount.path), str(mount.path))
    for link, target in run.links.items():
        yield from ("--symlink", target, str(link))
    yield from ("--bind", str(run.folder / "work"), WORK, "--bind", str(run.folder / "answer"), ANSWER)
    yield from ("--ro-bind", str(run.folder / "brief"), BRIEF)
    yield from ("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORK)
