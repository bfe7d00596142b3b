"""Memory control groups for sandboxes: each gets one of its own, where the worker may make some.

A user's own services and terminals run below a group (version 2) that systemd delegates (`user@1000.service`); a system
service gets one by `Delegate=memory` and `DelegateSubgroup=`. In it the kernel itself counts all memory of a sandbox:
sockets, files, page tables. Elsewhere memory_use.py counts what it can. Groups of version 1, which only root makes, set
no limit.

The kernel counts for a group, too, what its processes brought into the caches of files and of names, those of absent
files included. All of it is thrown out when the sandbox ends: the next one could measure by the time that a look takes
what the last one looked at, thousands of bits in a few milliseconds.
"""

import contextlib
import os
import time
from pathlib import Path
from uuid import uuid4

from shared.runs import RunLimit
from worker.sandbox.base import MIB, ProcessLimits, SandboxUnavailable

MOUNT = Path("/sys/fs/cgroup")
REMOVE_SECONDS = 2.0
"""Time for the kernel to forget the ended processes of a group."""

EMPTYING = ("memory.high", "memory.force_empty")
"""Files of version 2 and 1. A zero in them makes the kernel reclaim all that it can of an ended group."""


def find_group(mount: Path = MOUNT, membership: Path = Path("/proc/self/cgroup")) -> Path | None:
    """The nearest group above this process in which it may make others with a memory limit; else root's own one of
    version 1, which has none.
    """
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return None
    for name in (name.lstrip("/") for number, _, name in lines if number == "0"):
        own = mount / name
        for group in (own, *own.parents[: len(Path(name).parts)]):
            if _is_ours(group) and _limits_memory(group):
                return group
    old = (mount / "memory" / name.lstrip("/") for _, kinds, name in lines if "memory" in kinds.split(","))
    return next((group for group in old if os.geteuid() == 0 and os.access(group / EMPTYING[1], os.W_OK)), None)


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


def limits_in(group: Path) -> tuple[RunLimit, ...]:
    """The limits that hold for sandboxes with groups in this one."""
    is_old = (group / EMPTYING[1]).exists()
    return (RunLimit.CACHES_EMPTIED,) if is_old else (RunLimit.MEMORY_LIMITED_BY_KERNEL, RunLimit.CACHES_EMPTIED)


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
            if RunLimit.MEMORY_LIMITED_BY_KERNEL not in limits_in(parent):
                return
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
        """Remove it once its processes have ended, with what they left in the kernel's caches."""
        for path in (self.folder / name for name in EMPTYING):
            with contextlib.suppress(OSError):
                if path.exists():
                    path.write_text("0")
        deadline = time.monotonic() + REMOVE_SECONDS
        while time.monotonic() < deadline:
            try:
                self.folder.rmdir()
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.01)
