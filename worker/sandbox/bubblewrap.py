"""The default sandbox: bubblewrap, with a uid of its own when the worker is root.

A process can read the system's programs and libraries, the interpreter with its packages, and its project's folder.
It can write to two file systems in memory (/tmp, /dev/shm), each as large as its disk limit. It has no network, home,
capability, environment or keyring of the worker, and sees no other process and no counter of the whole machine. It ends
with the worker, together with everything it started. seccomp.py says which system calls it may make.

Not covered:
 * Faults of the kernel, of bubblewrap, or of a GPU's driver; side channels between processes: above all, where the
   worker can make no control group, which files the last sandbox looked at (control_group.py).
 * A fair share of the CPU: its cores may be used fully, and disk caches and memory bandwidth are shared.
 * Memory within a quarter of a second: the worker counts it that often. The content of the two file systems comes on
   top of the limit, and so do the 64 MiB that all pipes of a user share. Other memory of the kernel (mappings, and what
   descriptors hold that are under way), and memfds, which CUDA needs, on a GPU: bounded only by the number of processes
   and by the watchdog's floor for the machine's free memory.
 * A GPU's memory and time. With a GPU the process also sees /sys, read-only: this machine's hardware and the names
   and addresses of its network cards; and it may write to its own /proc, and so ask that the kernel, where memory runs
   out, end the volunteer's processes before it.
 * Descriptors grant access to what they open. Pass sealed memory or sockets, not files: started by a plain user, the
   process has the user's uid and may reopen a file for writing.
 * Started by a plain user, its threads are counted by the worker as often, since the kernel counts the user's.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from worker.sandbox.base import (
    CONFINED_LIMITS,
    MIB,
    Gpu,
    ProcessLimits,
    SandboxedProcess,
    SandboxRequest,
    SandboxUnavailable,
    try_sandbox,
)
from worker.sandbox.confinement import (
    find_counters,
    find_links,
    proc_files,
    readable_folders,
    sandbox_environment,
    threads_of_user,
    unused_uid,
)
from worker.sandbox.control_group import MemoryGroup, find_group, limits_in
from worker.sandbox.gpu_files import bind_gpu, find_devices, find_groups, prepare_gpu
from worker.sandbox.launcher import ALIAS_FOLDER
from worker.sandbox.process import ConfinedProcess, LaunchPlan, resource_limits
from worker.sandbox.seccomp import filter_of_run

INSTALL_HINT = (
    "install it (`apt-get install bubblewrap`, `dnf install bubblewrap`, `pacman -S bubblewrap`), "
    "or run strangers' code unprotected with `--sandbox unconfined`"
)
NAMESPACE_HINT = (
    "as a plain user this needs unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0), as root CAP_SYS_ADMIN (a container: `--cap-add SYS_ADMIN`, "
    "or run the worker as a plain user); bubblewrap must be 0.8 or newer; `--sandbox unconfined` overrides"
)

CACHES_GAP = (
    "the time that a look at a file takes, by which one process tells the next. The worker needs a control group to "
    "empty these caches: start it by `systemd-run --user --scope swarm-worker`, or as root in a service with "
    "`Delegate=memory` and `DelegateSubgroup=worker`"
)


def find_program() -> str:
    """The path of bubblewrap. Raises SandboxUnavailable."""
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxUnavailable(f"bubblewrap is not installed: {INSTALL_HINT}")
    return program


class BubblewrapSandbox:
    """Implements `Sandbox`."""

    name = "bubblewrap"
    limits = CONFINED_LIMITS

    def __init__(self, gpu: Gpu | None = None) -> None:
        """Find and try bubblewrap; `gpu` is for processes whose request names a GPU. Raises SandboxUnavailable."""
        self._program, self._gpu = find_program(), gpu
        if gpu is not None:
            prepare_gpu(gpu)
        self._folders = tuple(readable_folders(gpu))
        self._group = find_group()
        with suppress(SandboxUnavailable):
            if self._group is not None and not try_sandbox(self):
                self.limits = (*CONFINED_LIMITS, *limits_in(self._group))
                return
        self._group = None
        if problem := try_sandbox(self):
            raise SandboxUnavailable(f"bubblewrap does not work here ({problem}): {NAMESPACE_HINT}")

    def start(self, request: SandboxRequest) -> SandboxedProcess:
        sources = [self._program, *self._folders, str(request.folder)]
        aliases: dict[str, str] = {}
        uid, others = None, 0
        if os.geteuid() == 0:
            uid = unused_uid()
            aliases = {source: f"{ALIAS_FOLDER}/{number}" for number, source in enumerate(sources)}
        else:
            others = threads_of_user(os.geteuid())
        binds = [("--ro-bind", aliases.get(source, source), source) for source in self._folders]
        binds.append(("--ro-bind", aliases.get(sources[-1], sources[-1]), "/project"))
        environment = sandbox_environment(request, folder="/project", scratch="/tmp", gpu=self._gpu)  # noqa: S108 - inside
        gpu = self._gpu if request.device != "cpu" else None
        program = aliases.get(self._program, self._program)
        group = MemoryGroup(self._group, request.limits) if self._group else None
        with ExitStack() as pipes:
            code = filter_of_run(request.device != "cpu", counts_cpu_time=request.counts_cpu_time)
            system_calls = pipes.enter_context(readable_pipe(code))
            shown = {
                path: pipes.enter_context(readable_pipe(text.encode()))
                for path, text in proc_files(request.limits.memory_mib).items()
            }
            options = (*_options(binds, request.limits, environment, gpu, shown), "--seccomp", str(system_calls))
            plan = LaunchPlan(
                argv=(program, *options, "--", *request.argv),
                rlimits=resource_limits(request, other_processes=others),
                uid=uid,
                groups=find_groups(find_devices(gpu), os.geteuid()) if gpu else (),
                aliases=aliases,
                cores=tuple(sorted(request.cores or ())),
                group=str(group.folder) if group else "",
            )
            given = (system_calls, *shown.values())
            return ConfinedProcess(plan.command(), request, {}, folder=Path("/"), descriptors=given, group=group)


@contextmanager
def readable_pipe(content: bytes) -> Iterator[int]:
    """A descriptor from which a program reads `content`, at most 64 KiB."""
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "wb") as file:
            file.write(content)
        yield reader
    finally:
        os.close(reader)


def isolation_options(environment: Mapping[str, str]) -> Iterator[str]:
    """Options for namespaces of its own, no capabilities, these variables only, and new /proc and /dev."""
    yield from ("--unshare-all", "--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000")
    yield from ("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv")
    for name, value in environment.items():
        yield from ("--setenv", name, value)
    yield from ("--proc", "/proc", "--dev", "/dev")


def cover_devices() -> Iterator[str]:
    """Options that take away devices whose memory counts for no process.

    Those are terminals, and /dev/zero, which can be mapped as shared memory; one reads zeros from /dev/full as well.
    """
    yield from ("--dev-bind", "/dev/full", "/dev/zero")
    yield from ("--size", "4096", "--tmpfs", "/dev/pts", "--remount-ro", "/dev/pts")


def _options(
    binds: Iterable[tuple[str, str, str]],
    limits: ProcessLimits,
    environment: dict[str, str],
    gpu: Gpu | None,
    shown: Mapping[str, int],
) -> Iterator[str]:
    """bubblewrap's command line up to the program. The order matters: a later mount covers an earlier one.

    `shown` are files of /proc and the descriptors of what they contain inside.
    """
    yield from isolation_options(environment)
    yield from cover_devices()
    for path in find_counters():
        if Path(path).is_dir():
            yield from ("--size", "4096", "--tmpfs", path, "--remount-ro", path)
        else:
            yield from ("--dev-bind", "/dev/null", path)
    for path, descriptor in shown.items():
        yield from ("--ro-bind-data", str(descriptor), path)
    if gpu is None:  # whether CUDA writes to it was not tried
        yield from ("--remount-ro", "/proc")
    size = str(limits.disk_mib * MIB)
    if gpu is not None:
        yield from bind_gpu(gpu)
    yield from ("--size", size, "--tmpfs", "/dev/shm", "--size", size, "--tmpfs", "/tmp")  # noqa: S108 - inside
    for folder, target in find_links():
        yield from ("--symlink", target, folder)
    for bind in binds:
        yield from bind
    # Both are in memory too, and bubblewrap sets no bound on their size.
    yield from ("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp")  # noqa: S108 - inside
