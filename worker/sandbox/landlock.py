"""The sandbox for rented GPUs: root in a container without CAP_SYS_ADMIN, where neither bubblewrap nor an engine works.

The kernel's Landlock lets a process open the same files as a bubblewrap sandbox would, and no others; seccomp.py says
which system calls it may make, and there are none for making a socket but a pair; it has a user id of its own, without
groups and capabilities. So it has no network, reads no home and no environment of others, signals and traces no process
of others, and writes to a scratch folder and to /dev/shm alone. What it wrote no other user can open, and is removed at
its end.

Not covered, or not possible, besides the list in worker/sandbox/bubblewrap.py, because it has no namespaces:
 * What the kernel tells of any path without opening it: names that it guesses, sizes, times, owners.
 * When an installed file was last read, which the kernel notes once a day: 256 of 256 bits passed from one sandbox to
   the next. So no result from here says `caches_emptied`.
 * Numbers that all share: process ids, the machine's free memory and disk, names in /dev/shm. Processes of two
   sandboxes that run at a time can pass bits to each other by them.
 * What others left open to everybody in /dev/shm, if its name is guessed.
 * The scratch folder lies on the disk, under the worker's temporary folder. What it holds is counted four times a
   second. Files that are mapped, and neither named nor open, are not counted.
 * The buffers of sockets that no process has open are bounded by the number of descriptors alone.
 * No program can listen on a socket, as multiprocessing's forkserver does.
 * Before Linux 6.2, files that everybody may write to could be shortened.
"""

import ctypes
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from shared.runs import RunLimit
from worker.machine.scratch import remove_tree
from worker.sandbox.base import CONFINED_LIMITS, Gpu, SandboxedProcess, SandboxRequest, SandboxUnavailable, try_sandbox
from worker.sandbox.confinement import readable_folders, sandbox_environment, unused_uid
from worker.sandbox.control_group import MemoryGroup, find_group, limits_in
from worker.sandbox.gpu_files import find_devices, find_groups, prepare_gpu
from worker.sandbox.landlock_init import CREATE_RULESET
from worker.sandbox.memory_use import SHARED_MEMORY, list_shared_memory
from worker.sandbox.process import ConfinedProcess, LaunchPlan, resource_limits
from worker.sandbox.seccomp import filter_of_run

GAPS = (
    "the times at which installed files were read, by which one run can tell the next; numbers of processes, free "
    "memory and disk, and names in /dev/shm, by which two at a time can; what others left open to everybody there"
)
ENTRY = Path(__file__).with_name("landlock_init.py")
ABI_QUESTION = 1  # LANDLOCK_CREATE_RULESET_VERSION

# Rights of <linux/landlock.h>, by the version of its ABI from which on the kernel knows them.
EXECUTE, WRITE, READ, LIST = (1 << bit for bit in range(4))
REMOVE_FOLDER, REMOVE, MAKE_CHARACTER, MAKE_FOLDER, MAKE, MAKE_SOCKET, MAKE_PIPE, MAKE_BLOCK, MAKE_LINK = (
    1 << bit for bit in range(4, 13)
)
MOVE, SHORTEN, CONTROL = (1 << bit for bit in range(13, 16))
FILE_RIGHTS = {1: (1 << 13) - 1, 2: MOVE, 3: SHORTEN, 5: CONTROL}
NETWORK_RIGHTS = {4: 0b11}  # to bind and to connect
SCOPES = {6: 0b11}  # abstract sockets, signals

ON_FILES = EXECUTE | WRITE | READ | SHORTEN | CONTROL
SHOWN = EXECUTE | READ | LIST
OWN = REMOVE_FOLDER | REMOVE | MAKE_FOLDER | MAKE | MAKE_SOCKET | MAKE_PIPE | MAKE_LINK | MOVE | ON_FILES | SHOWN
DEVICE = READ | WRITE | CONTROL
UNLISTED = READ | WRITE | SHORTEN | MAKE | REMOVE

DEVICES = {"/dev/null": DEVICE, "/dev/full": DEVICE, "/dev/random": READ, "/dev/urandom": READ}
KERNEL_FILES = (
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm/overcommit_memory",
    *(f"/proc/self/{name}" for name in ("cmdline", "maps", "stat", "statm", "status")),
)  # fmt: skip
KERNEL_FILES_FOR_GPU = ("/sys", "/proc/devices", "/proc/driver/nvidia", "/proc/modules", "/proc/self")


def find_version() -> int:
    """The version of Landlock's ABI in this kernel; 0 without it."""
    return max(0, int(ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ABI_QUESTION)))


class LandlockSandbox:
    """Implements `Sandbox`."""

    name = "landlock (no namespaces)"
    limits = CONFINED_LIMITS

    def __init__(self, gpu: Gpu | None = None) -> None:
        """Find and try Landlock; `gpu` is for processes whose request names a GPU. Raises SandboxUnavailable."""
        if os.geteuid() != 0:
            raise SandboxUnavailable("landlock needs a worker that root started, for a user id of its own")
        self._version, self._gpu = find_version(), gpu
        if self._version == 0:
            raise SandboxUnavailable(
                "landlock needs Linux 5.13 with `lsm=landlock,...`, and a container that lets its calls pass"
            )
        if gpu is not None:
            prepare_gpu(gpu)
            _require_exec(Path(tempfile.gettempdir()))
        self._folders = tuple(readable_folders(gpu))
        _require_reach(Path(sys.executable))
        self._group = find_group()
        with suppress(SandboxUnavailable):
            if self._group is not None and not try_sandbox(self):
                kept = (limit for limit in limits_in(self._group) if limit is not RunLimit.CACHES_EMPTIED)
                self.limits = (*CONFINED_LIMITS, *kept)
                return
        self._group = None
        if problem := try_sandbox(self):
            raise SandboxUnavailable(f"landlock does not work here ({problem})")

    def start(self, request: SandboxRequest) -> SandboxedProcess:
        uid = unused_uid()
        gpu = self._gpu if request.device != "cpu" else None
        outer = Path(tempfile.mkdtemp(prefix=f"swarm-scratch-{os.getpid()}-"))  # as clear_leftovers knows it
        scratch = outer / "files"
        try:
            group = MemoryGroup(self._group, request.limits) if self._group else None
            outer.chmod(0o711)
            scratch.mkdir(0o700)
            os.chown(scratch, uid, uid)
            rules = json.dumps(
                {
                    "handled": [self._known(rights) for rights in (FILE_RIGHTS, NETWORK_RIGHTS, SCOPES)],
                    "paths": list(self._list_paths(request, scratch, gpu)),
                    "system_calls": filter_of_run(
                        gpu is not None, counts_cpu_time=request.counts_cpu_time, has_namespaces=False
                    ).hex(),
                }
            )
            plan = LaunchPlan(
                argv=(sys.executable, "-I", "-S", str(ENTRY), rules, *request.argv),
                rlimits=resource_limits(request),
                uid=uid,
                groups=find_groups(find_devices(gpu), 0) if gpu else (),
                cores=tuple(sorted(request.cores or ())),
                group=str(group.folder) if group else "",
            )
            environment = sandbox_environment(request, str(request.folder), str(scratch), self._gpu)
            return ConfinedProcess(
                plan.command(), request, environment, folder=scratch, scratch=scratch, group=group,
                on_end=lambda: _remove_files(outer, uid),
            )  # fmt: skip
        except (OSError, SandboxUnavailable):
            _remove_files(outer, uid)
            raise

    def _known(self, rights: dict[int, int]) -> int:
        """Those of the rights that this kernel knows."""
        return sum(bits for version, bits in rights.items() if version <= self._version)

    def _list_paths(self, request: SandboxRequest, scratch: Path, gpu: Gpu | None) -> Iterator[tuple[str, int]]:
        """The paths that may be opened, each with the rights below it."""
        known = self._known(FILE_RIGHTS)
        rights: dict[str, int] = dict.fromkeys((*self._folders, str(request.folder), *KERNEL_FILES), SHOWN)
        rights |= DEVICES | {str(scratch): OWN, str(SHARED_MEMORY): UNLISTED}
        if gpu is not None:
            rights |= dict.fromkeys(find_devices(gpu), DEVICE) | dict.fromkeys(KERNEL_FILES_FOR_GPU, SHOWN)
        for path, wanted in rights.items():
            own = wanted if Path(path).is_dir() else wanted & ON_FILES
            yield path, own & known


def _remove_files(scratch: Path, uid: int) -> None:
    """Remove all that a sandbox of this user wrote, before another one starts."""
    remove_tree(scratch)
    for path in list_shared_memory(uid):
        path.unlink(missing_ok=True)


def _require_exec(folder: Path) -> None:
    """Raise SandboxUnavailable if no program can be loaded from `folder`, where runs compile theirs."""
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        raise SandboxUnavailable(
            f"landlock's runs compile GPU code in {folder}, which is mounted `noexec`: set TMPDIR to another one"
        )


def _require_reach(path: Path) -> None:
    """Raise SandboxUnavailable if other users cannot enter a folder above `path`."""
    for folder in reversed((*path.parents, *path.resolve().parents)):
        if not stat.S_IMODE(folder.stat().st_mode) & stat.S_IXOTH:
            raise SandboxUnavailable(
                f"landlock does not reach {path}, because no other user may enter {folder}: install Python and the "
                "worker elsewhere, for example by `python3 -m venv /opt/swarm`"
            )
