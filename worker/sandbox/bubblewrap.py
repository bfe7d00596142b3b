"""The default sandbox: bubblewrap, with a uid of its own when the worker is root.

A process sees read-only: the system's programs and libraries, the interpreter with its packages, and its project's
folder. It can write to two file systems in memory (/tmp, /dev/shm), each as large as its disk limit. It has no
network, no home, no capability, none of the worker's environment or keyrings, and sees none of the machine's other
processes.
It ends with the worker, and everything that it started ends with it.

What it does NOT cover:
 * Faults of the kernel, of bubblewrap, or of a GPU's driver; side channels between processes.
 * A fair share of the CPU: its cores may be used fully, and disk caches and memory bandwidth are shared.
 * Memory held in files in memory (`/tmp`, `/dev/shm`, memfd) rather than in processes: /tmp and /dev/shm are
   bounded by their size, memfds only by the watchdog's floor for the whole machine's free memory.
 * A GPU's memory and time, once a process is given a GPU. With one it also sees /sys, read-only: this machine's
   hardware and the names and addresses of its network cards.
 * Descriptors: whoever passes one grants what it opens. Pass sealed memory or sockets, not files of the user:
   started by a plain user, the process has the user's own uid, and may reopen a file it was handed for writing.
 * Started by a plain user, the limit on processes is per user: it also counts those outside.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from worker.sandbox.base import Gpu, ProcessLimits, SandboxedProcess, SandboxRequest, SandboxUnavailable, try_out
from worker.sandbox.confinement import (
    bind_gpu,
    find_devices,
    find_links,
    readable_folders,
    sandbox_environment,
    threads_of_user,
    unused_uid,
    wake_driver,
)
from worker.sandbox.launcher import ALIAS_FOLDER
from worker.sandbox.process import MIB, ConfinedProcess, LaunchPlan, resource_limits

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

    def __init__(self, gpu: Gpu | None = None) -> None:
        """Find bubblewrap and try it; `gpu` is the one that processes may use if they ask for it.

        Raises SandboxUnavailable, whose one line says what to do.
        """
        program = shutil.which("bwrap")
        if program is None:
            raise SandboxUnavailable(f"bubblewrap is not installed: {INSTALL_HINT}")
        self._program, self._gpu = program, gpu
        if gpu is not None:
            wake_driver()
            find_devices(gpu)
        self._folders = tuple(readable_folders())
        said = try_out(self)
        if said:
            raise SandboxUnavailable(f"bubblewrap does not work here ({said}): {NAMESPACE_HINT}")

    def start(self, request: SandboxRequest) -> SandboxedProcess:
        """See `Sandbox.start`."""
        sources = [self._program, *self._folders, str(request.folder)]
        aliases: dict[str, str] = {}
        uid = None
        others = 0
        if os.geteuid() == 0:
            uid = unused_uid()
            aliases = {source: f"{ALIAS_FOLDER}/{number}" for number, source in enumerate(sources)}
        else:
            others = threads_of_user(os.geteuid())
        binds = [("--ro-bind", aliases.get(source, source), source) for source in self._folders]
        binds.append(("--ro-bind", aliases.get(sources[-1], sources[-1]), "/project"))
        environment = sandbox_environment(request, folder="/project", scratch="/tmp", gpu=self._gpu)  # noqa: S108 - inside
        gpu = self._gpu if request.device != "cpu" else None
        plan = LaunchPlan(
            argv=(
                aliases.get(self._program, self._program),
                *_options(binds, request.limits, environment, gpu),
                "--",
                *request.argv,
            ),
            rlimits=resource_limits(request, other_processes=others),
            uid=uid,
            aliases=aliases,
            cores=tuple(sorted(request.cores or ())),
        )
        return ConfinedProcess(plan.command(), request, environment={}, folder=Path("/"))


def _options(
    binds: Iterable[tuple[str, str, str]], limits: ProcessLimits, environment: dict[str, str], gpu: Gpu | None
) -> Iterator[str]:
    """bubblewrap's command line up to the program. The order matters: a later mount covers an earlier one."""
    yield from ("--unshare-all", "--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000")
    yield from ("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv")
    for name, value in environment.items():
        yield from ("--setenv", name, value)
    size = str(limits.disk_mib * MIB)
    yield from ("--proc", "/proc", "--dev", "/dev")
    if gpu is not None:
        yield from bind_gpu(gpu)
    yield from ("--size", size, "--tmpfs", "/dev/shm", "--size", size, "--tmpfs", "/tmp")  # noqa: S108 - inside
    for folder, target in find_links():
        yield from ("--symlink", target, folder)
    for bind in binds:
        yield from bind
    # Both are file systems in memory too, and bubblewrap sets no bound on their size.
    yield from ("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp")  # noqa: S108 - inside
