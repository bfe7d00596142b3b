"""The default sandbox: bubblewrap, with a uid of its own when the worker is root.

A process sees read-only: the system's programs and libraries, the interpreter with its packages, and its project's
folder. It can write to two file systems in memory (/tmp, /dev/shm), each as large as its disk limit. It has no
network, no home, no capability, none of the worker's environment, and sees none of the machine's other processes.
It ends with the worker, and everything that it started ends with it.

What it does NOT cover:
 * Faults of the kernel, of bubblewrap, or of a GPU's driver; side channels between processes.
 * A fair share of the CPU: its cores may be used fully, and disk caches and memory bandwidth are shared.
 * Memory held in files in memory (`/tmp`, `/dev/shm`, memfd) rather than in processes: /tmp and /dev/shm are
   bounded by their size, memfds only by the watchdog's floor for the whole machine's free memory.
 * A GPU's memory and time, once a process is given a GPU.
 * Descriptors: whoever passes one grants what it opens. Pass sealed memory or sockets, not files of the user:
   started by a plain user, the process has the user's own uid, and may reopen a file it was handed for writing.
 * Started by a plain user, the limit on processes is per user: it also counts those outside.
"""

import os
import random
import shutil
import site
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from worker.sandbox.base import Limits, SandboxedProcess, SandboxRequest, SandboxUnavailable
from worker.sandbox.environment import sandbox_environment
from worker.sandbox.launcher import ALIAS_FOLDER
from worker.sandbox.process import MIB, ConfinedProcess, LaunchPlan, resource_limits, threads_of_user

DYNAMIC_UIDS = range(61184, 65520)
"""systemd's range for users that exist only as long as a process: no package and no person has one of these."""

SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
LINKER_FILES = ("/etc/ld.so.cache", "/etc/alternatives")
"""What the dynamic linker reads; distributions choose libraries such as BLAS through /etc/alternatives."""

INSTALL_HINT = (
    "install it (`apt-get install bubblewrap`, `dnf install bubblewrap`, `pacman -S bubblewrap`), "
    "or run strangers' code unprotected with `--sandbox unconfined`"
)
NAMESPACE_HINT = (
    "as a plain user this needs unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0), as root CAP_SYS_ADMIN (a container: `--cap-add SYS_ADMIN`, "
    "or run the worker as a plain user); bubblewrap must be 0.8 or newer; `--sandbox unconfined` overrides"
)


class BubblewrapSandbox:
    """Implements `Sandbox`."""

    name = "bubblewrap"

    def __init__(self) -> None:
        """Find bubblewrap and try it. Raises SandboxUnavailable, whose one line says what to do."""
        program = shutil.which("bwrap")
        if program is None:
            raise SandboxUnavailable(f"bubblewrap is not installed: {INSTALL_HINT}")
        self._program = program
        self._folders = tuple(_readable_folders())
        self._probe()

    def start(self, request: SandboxRequest) -> SandboxedProcess:
        """See `Sandbox.start`."""
        sources = [self._program, *self._folders, str(request.folder)]
        aliases: dict[str, str] = {}
        uid = None
        others = 0
        if os.geteuid() == 0:
            uid = _unused_uid()
            aliases = {source: f"{ALIAS_FOLDER}/{number}" for number, source in enumerate(sources)}
        else:
            others = threads_of_user(os.geteuid())
        binds = [("--ro-bind", aliases.get(source, source), source) for source in self._folders]
        binds.append(("--ro-bind", aliases.get(sources[-1], sources[-1]), "/project"))
        environment = sandbox_environment(request, folder="/project", scratch="/tmp")  # noqa: S108 - inside
        plan = LaunchPlan(
            argv=(
                aliases.get(self._program, self._program),
                *_options(binds, request.limits, environment),
                "--",
                *request.argv,
            ),
            rlimits=resource_limits(request, other_processes=others),
            uid=uid,
            aliases=aliases,
            cores=tuple(sorted(request.cores or ())),
        )
        return ConfinedProcess(plan, request, environment={}, folder=Path("/"))

    def _probe(self) -> None:
        """Run the interpreter in the sandbox, because whether namespaces are allowed shows only by trying."""
        limits = Limits(memory_mib=512, processes=16, disk_mib=16)
        argv = (sys.executable, "-I", "-c", "print('works')")
        process = self.start(SandboxRequest(argv, limits, folder=Path(__file__).parent))
        outcome = process.wait(30) or process.kill()
        if outcome.exit_status != 0 or outcome.log_tail != "works":
            said = outcome.log_tail.splitlines()[-1] if outcome.log_tail else f"signal {outcome.signal}"
            raise SandboxUnavailable(f"bubblewrap does not work here ({said}): {NAMESPACE_HINT}")


def _options(binds: Iterable[tuple[str, str, str]], limits: Limits, environment: dict[str, str]) -> Iterator[str]:
    """bubblewrap's command line up to the program. The order matters: a later mount covers an earlier one."""
    yield from ("--unshare-all", "--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000")
    yield from ("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv")
    for name, value in environment.items():
        yield from ("--setenv", name, value)
    size = str(limits.disk_mib * MIB)
    yield from ("--proc", "/proc", "--dev", "/dev")
    yield from ("--size", size, "--tmpfs", "/dev/shm", "--size", size, "--tmpfs", "/tmp")  # noqa: S108 - inside
    for folder in SYSTEM_FOLDERS:
        if Path(folder).is_symlink():
            yield from ("--symlink", str(Path(folder).readlink()), folder)
    for bind in binds:
        yield from bind
    # Both are file systems in memory too, and bubblewrap sets no bound on their size.
    yield from ("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp")  # noqa: S108 - inside


def _readable_folders() -> Iterator[str]:
    """The allow-list: what every sandboxed process may read besides its project's folder, without duplicates."""
    seen: list[Path] = []
    interpreter = (sys.base_prefix, sys.prefix, *site.getsitepackages())
    for name in (*SYSTEM_FOLDERS, *LINKER_FILES, *interpreter):
        for path in (Path(name), Path(name).resolve()):
            shown = any(path.is_relative_to(folder) for folder in seen)
            if path.exists() and not shown and not (path.is_symlink() and name in SYSTEM_FOLDERS):
                seen.append(path)
                yield str(path)


def _unused_uid() -> int:
    """A uid that no process of this machine has."""
    used = {uid for p in psutil.process_iter(["uids"]) if p.info["uids"] for uid in p.info["uids"]}
    return random.choice([uid for uid in DYNAMIC_UIDS if uid not in used])
