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

_FIELDS = (b"VmRSS:", b"VmPTE:", b"Threads:")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked into, not written to
SCRATCH = ("tmp", "dev/shm")  # as in the sandboxes
INODE_BYTES = 2048
"""Kernel memory of a file in memory besides its content: inode and name; about 1,450 bytes with a short name."""

SOCKET_BUFFER = Path("/proc/sys/net/core/wmem_default")
SOCKET_BUFFERS = 2
"""A socket takes its last message even if that is as long as its whole buffer."""

DESCRIPTOR_BYTES = 4096
"""Half of what every pipe has room for. All pipes of a user together hold 64 MiB more (fs.pipe-user-pages-soft)."""

WATCH_BYTES = 200
"""Kernel memory of a descriptor that an epoll watches; each may watch all that are open."""


class ProcessUse(NamedTuple):
    """Resident memory and page tables of a process, and its threads."""

    bytes: int = 0
    threads: int = 0


def read_use(pid: int) -> ProcessUse:
    """The use of a process; nothing if it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return ProcessUse()
    found = {line[:6]: int(line.split()[1]) for line in status.splitlines() if line.startswith(_FIELDS)}
    return ProcessUse(1024 * (found.get(b"VmRSS:", 0) + found.get(b"VmPTE:", 0)), found.get(b"Thread", 0))


def uncounted_bytes(pids: Collection[int], limits: ProcessLimits) -> int:
    """About the most that the kernel holds for files, sockets and pipes of the sandbox with these processes.

    The limits say which file systems are its own. 0 if none is: outside of a sandbox.
    """
    for pid in pids:
        root = Path(f"/proc/{pid}/root")
        try:
            scratch = [os.statvfs(root / folder) for folder in SCRATCH]
        except OSError:
            continue
        own = [found for found in scratch if found.f_blocks * found.f_frsize == limits.disk_mib * MIB]
        if own:
            inodes = sum(found.f_files - found.f_ffree for found in own)
            descriptors = [*_list_open(pids)]
            watched = WATCH_BYTES * sum(map(_is_epoll, descriptors))
            return inodes * INODE_BYTES + _socket_bytes(pid) + len(descriptors) * (DESCRIPTOR_BYTES + watched)
    return 0


def _socket_bytes(pid: int) -> int:
    """At most the buffers of the Unix sockets in the network that only the sandbox has."""
    try:
        if Path(f"/proc/{pid}/ns/net").samefile("/proc/self/ns/net"):
            return 0
        rows = [line.split() for line in Path(f"/proc/{pid}/net/protocols").read_text().splitlines()]
        buffer = int(SOCKET_BUFFER.read_text())
    except OSError:
        return 0
    return sum(int(row[2]) for row in rows if row[0].startswith("UNIX")) * SOCKET_BUFFERS * buffer


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
        with contextlib.suppress(OSError):
            yield from Path(f"/proc/{pid}/fd").iterdir()


def _is_epoll(descriptor: Path) -> bool:
    with contextlib.suppress(OSError):  # it is closed
        return str(descriptor.readlink()) == "anon_inode:[eventpoll]"
    return False
