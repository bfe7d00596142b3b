"""The memory of a sandbox's processes, with what the kernel holds for them and counts for no process.

Besides its resident memory a process can fill page tables, the buffers of sockets and pipes, the inodes of files
without content, and lists of watched descriptors. The worker adds them up several times a second, and the kernel does
where control_group.py can ask it to. What the worker could not count is refused (seccomp.py).
"""

import contextlib
import errno
import math
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from worker.sandbox.base import MIB, ProcessLimits

_FIELDS = (b"VmRSS:", b"VmPTE:", b"VmSwap:", b"Threads:", b"FDSize:")
PROC = Path("/proc")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked into, not written to
SCRATCH = ("tmp", "dev/shm")  # as in the sandboxes
INODE_BYTES = 2048
"""Kernel memory of a file in memory besides its content: inode and name; about 1,450 bytes with a short name."""

SOCKET_BUFFER = Path("/proc/sys/net/core/wmem_default")
SOCKET_BUFFERS = 2
"""A socket takes its last message even if that is as long as its whole buffer."""

DESCRIPTOR_BYTES = 4096
"""Half of what every pipe has room for. All pipes of a user together hold 64 MiB more (fs.pipe-user-pages-soft)."""

EPOLL = "anon_inode:[eventpoll]"
WATCH_BYTES = 200
"""Kernel memory of a descriptor that an epoll watches, and at most that of its line in an open description of the epoll
(/proc/<pid>/fdinfo/...), whose text the kernel keeps."""


class ProcessUse(NamedTuple):
    """Memory of a process with its page tables, its threads, and the room of its table of descriptors."""

    bytes: int = 0
    threads: int = 0
    descriptors: int = 0


def read_use(pid: int, proc: Path = PROC) -> ProcessUse:
    """The use of a process; nothing if it has just ended."""
    found: dict[bytes, int] = {}
    for folder in _list_threads(pid, proc):
        with contextlib.suppress(OSError):
            lines = (folder / "status").read_bytes().splitlines()
            found = {line.split(b":")[0]: int(line.split()[1]) for line in lines if line.startswith(_FIELDS)}
        if b"VmRSS" in found or found.get(b"Threads", 0) < 2:
            break
    used = sum(found.get(name, 0) for name in (b"VmRSS", b"VmPTE", b"VmSwap"))
    return ProcessUse(1024 * used, found.get(b"Threads", 0), found.get(b"FDSize", 0))


def _list_threads(pid: int, proc: Path = PROC) -> Iterator[Path]:
    """The folders that tell of a process, its own first, which tells nothing once its first thread has ended."""
    yield proc / str(pid)
    with contextlib.suppress(OSError):
        yield from (proc / str(pid) / "task").iterdir()


def uncounted_bytes(pids: Collection[int], limits: ProcessLimits) -> int:
    """About the most that the kernel holds for files, sockets and pipes of the sandbox with these processes.

    Its files count here if its file systems are its own, which the limits say, else in `scratch_bytes`.
    """
    links = {descriptor: link for descriptor in _list_open(pids) if (link := _read_link(descriptor))}
    # A process may hide from a plain user's worker what it has open, and not what it has room for. One that just ends
    # hides it, too; it has no memory then.
    closed = [pid for pid in pids if not any(os.access(one / "fd", os.R_OK) for one in _list_threads(pid, PROC))]
    hidden = sum(use.descriptors for use in (read_use(pid, PROC) for pid in closed) if use.bytes)
    descriptors = len(links) + hidden
    watches = sum(_count_watches(one) for one, link in links.items() if link == EPOLL) + hidden * descriptors
    descriptions = sum("/fdinfo/" in link for link in links.values()) + hidden
    sockets = sum(link.startswith("socket:") for link in links.values())
    inodes = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            scratch = [os.statvfs(PROC / str(pid) / "root" / folder) for folder in SCRATCH]
            own = [found for found in scratch if found.f_blocks * found.f_frsize == limits.disk_mib * MIB]
            if own:
                inodes = sum(found.f_files - found.f_ffree for found in own)
                sockets = max(sockets, _count_sockets(pid))
                break
    return (
        inodes * INODE_BYTES
        + sockets * SOCKET_BUFFERS * _read_socket_buffer()
        + descriptors * DESCRIPTOR_BYTES
        + watches * WATCH_BYTES * (1 + descriptions)
    )


def _count_sockets(pid: int) -> int:
    """The Unix sockets in the network that only the sandbox has, those that nobody has open included; else 0."""
    if (PROC / str(pid) / "ns/net").samefile("/proc/self/ns/net"):
        return 0
    rows = [line.split() for line in (PROC / str(pid) / "net/protocols").read_text().splitlines()]
    return sum(int(row[2]) for row in rows if row[0].startswith("UNIX"))


def _read_socket_buffer() -> int:
    with contextlib.suppress(OSError):  # older kernels do not show it in a container
        return int(SOCKET_BUFFER.read_text())
    return 212_992  # their default


def scratch_bytes(folder: Path, pids: Iterable[int]) -> float:
    """The content of a user's scratch folder and of /dev/shm, with nameless files that these processes hold.

    Infinite if folders lie in each other too deep for a path, where it cannot be counted.
    """
    seen: dict[tuple[int, int], int] = {}
    try:
        uid = folder.stat().st_uid
        for path in (*_list_below(folder), *list_shared_memory(uid), *_list_open(pids)):
            with contextlib.suppress(OSError):  # it is gone
                found = path.stat() if path.parent.name == "fd" else path.lstat()
                if found.st_uid == uid and (path.parent.name != "fd" or found.st_nlink == 0):
                    seen[found.st_dev, found.st_ino] = found.st_blocks * 512
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return math.inf
    return sum(seen.values()) + INODE_BYTES * len(seen)


def _list_below(folder: Path) -> Iterator[Path]:
    """All that lies in a folder and in those below. Raises OSError where a path is too long."""
    waiting = [str(folder)]
    while waiting:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                yield Path(entry)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def list_shared_memory(uid: int) -> list[Path]:
    """A user's files in /dev/shm."""
    with contextlib.suppress(OSError):
        return [Path(entry) for entry in os.scandir(SHARED_MEMORY) if entry.stat(follow_symlinks=False).st_uid == uid]
    return []


def _list_open(pids: Iterable[int]) -> Iterator[Path]:
    for pid in pids:
        for folder in _list_threads(pid):
            found: list[Path] = []
            with contextlib.suppress(OSError):
                found += (folder / "fd").iterdir()
            yield from found
            if found:
                break


def _read_link(descriptor: Path) -> str:
    with contextlib.suppress(OSError):  # it is closed
        return os.readlink(descriptor)  # noqa: PTH115 - a Path of it would take as long again
    return ""


def _count_watches(epoll: Path) -> int:
    """Number of files that an epoll watches, those included that are open by other numbers than it knows."""
    with contextlib.suppress(OSError):  # it is closed
        return (epoll.parents[1] / "fdinfo" / epoll.name).read_bytes().count(b"tfd:")
    return 0
