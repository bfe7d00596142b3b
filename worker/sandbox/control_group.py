"""Memory control groups (cgroup version 2) for sandboxes, where some group is delegated to the worker.

A user's own services and terminals run below such a group of systemd's (`user@1000.service`); a system service gets one
by `Delegate=memory` and `DelegateSubgroup=`. In it the kernel itself counts all memory of a sandbox: sockets, files,
page tables. Elsewhere memory_use.py counts what it can.
"""

import contextlib
import os
import time
from pathlib import Path
from uuid import uuid4

from worker.sandbox.base import ProcessLimits, SandboxUnavailable

MIB = 1024 * 1024
MOUNT = Path("/sys/fs/cgroup")
REMOVE_SECONDS = 2.0
"""Time for the kernel to forget the ended processes of a group."""


def find_group(mount: Path = MOUNT, membership: Path = Path("/proc/self/cgroup")) -> Path | None:
    """The nearest group above this process in which it may make others with a memory limit."""
    try:
        names = [line[3:].lstrip("/") for line in membership.read_text().splitlines() if line.startswith("0::")]
    except OSError:
        return None
    for name in names:
        own = mount / name
        for group in (own, *own.parents[: len(Path(name).parts)]):
            if _is_ours(group) and _limits_memory(group):
                return group
    return None


def _is_ours(group: Path) -> bool:
    """Whether processes may be moved to new groups in it; root, who may always, asks for the manager's mark."""
    if not (os.access(group, os.W_OK) and os.access(group / "cgroup.procs", os.W_OK)):
        return False
    if os.geteuid() != 0:
        return True
    for mark in ("trusted.delegate", "user.delegate"):
        with contextlib.suppress(OSError):
            return os.getxattr(group, mark) == b"1"
    return False


def _limits_memory(group: Path) -> bool:
    """Whether groups in it can have memory limits, after turning them on if need be."""
    with contextlib.suppress(OSError):
        switch = group / "cgroup.subtree_control"
        if "memory" in switch.read_text().split():
            return True
        if "memory" in (group / "cgroup.controllers").read_text().split():
            switch.write_text("+memory")  # refused while processes are in the group itself
            return True
    return False


class MemoryGroup:
    """The group of one sandbox, whose first process enters it before it starts anything else."""

    def __init__(self, parent: Path, limits: ProcessLimits) -> None:
        """Make it. Raises SandboxUnavailable.

        The kernel counts the content of the two file systems in memory as well, and a quarter more is left to the
        worker, which can say what was exceeded.
        """
        self._limits = limits
        self.folder = parent / f"swarm-{uuid4().hex}"
        most = (limits.memory_mib * 5 // 4 + 2 * limits.disk_mib) * MIB
        try:
            self.folder.mkdir()
            (self.folder / "memory.max").write_text(str(most))
            (self.folder / "memory.oom.group").write_text("1")
        except OSError as error:
            self.remove()
            raise SandboxUnavailable(f"no memory limit can be set in {parent}: {error.strerror}") from error
        with contextlib.suppress(OSError):  # a kernel without swap has no such file
            (self.folder / "memory.swap.max").write_text("0")

    def explain_end(self) -> str:
        """Why the kernel ended the sandbox, as `ProcessOutcome.killed_for`; empty if it did not."""
        with contextlib.suppress(OSError):
            events = dict(line.split() for line in (self.folder / "memory.events").read_text().splitlines())
            if int(events.get("oom_kill", 0)) > 0:
                return f"it used more than {self._limits.memory_mib} MiB of memory"
        return ""

    def remove(self) -> None:
        """Remove it once its processes have ended."""
        deadline = time.monotonic() + REMOVE_SECONDS
        while time.monotonic() < deadline:
            try:
                self.folder.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.01)
