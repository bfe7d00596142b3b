"""CPU seconds of a sandbox's processes, ended ones included.

A living process's own time is read from its CPU clock, to the nanosecond. The kernel adds that of an ended one to its
parent's `cutime` and `cstime` when the parent waits for it, and every orphan gets a parent that waits: the sandbox's
first process. So the sum over the living holds all of the sandbox's time. It would not hold that of a child whose
parent ignores SIGCHLD, which nobody waits for; see docs/decisions/0025-budgets-by-cpu-time.md.

/proc rounds `cutime` and `cstime` down to clock ticks, and processes can end while their times are read. So there are
two sums: counting from the one to the other gives no time away.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from worker.sandbox.base import CpuSeconds

SNAPSHOTS = 5
"""Attempts at a sum during which no process ends."""

ROUNDED_DOWN = 4
"""Processes whose times stay rounded down: as many as a sandbox has with one process of the program. For each process
beyond, up to 0.02 s too much is charged."""

_CPU_CLOCK = 2  # CPUCLOCK_SCHED of <linux/posix-timers.h>


class CpuTime:
    """The CPU time of `roots` and all processes below them."""

    def __init__(self, roots: Callable[[], Iterable[int]]) -> None:
        """`last` is the result of the last `read`."""
        self._roots = roots
        self._known: set[psutil.Process] = set()
        self._lock = threading.Lock()
        self.last = CpuSeconds(0.0, 0.0)

    def read(self) -> CpuSeconds:
        """The time used so far; neither sum ever falls.

        While processes end all the time, `least` stays as it was, and each of them counts itself and in its parent.
        """
        seen: dict[psutil.Process, float] = {}
        with self._lock:
            for _ in range(SNAPSHOTS):
                before, after = self._find(), self._find()
                seen |= before | after
                if before.keys() <= after.keys():
                    self.last = CpuSeconds(max(self.last.least, sum(before.values())), self._most(after))
                    return self.last
            self.last = CpuSeconds(self.last.least, self._most(seen))
            return self.last

    def _most(self, found: dict[psutil.Process, float]) -> float:
        rounded_off = 2 / os.sysconf("SC_CLK_TCK") * max(0, len(found) - ROUNDED_DOWN)
        return max(self.last.most, sum(found.values()) + rounded_off)

    def _find(self) -> dict[psutil.Process, float]:
        """The seconds of each living process, rounded down.

        Also of those that were below the roots and are not, for the moment between their parent's end and a new one.
        """
        found = {}
        for process in {*list_trees(self._roots()), *self._known}:
            with suppress(psutil.Error, OSError):  # it has just ended
                times = process.cpu_times()
                own = time.clock_gettime(~process.pid << 3 | _CPU_CLOCK)  # as clock_getcpuclockid(3) does
                if process.is_running():  # and its pid is still its own
                    found[process] = own + times.children_user + times.children_system
        self._known = set(found)
        return found


def list_trees(roots: Iterable[int]) -> Iterator[psutil.Process]:
    """The existing processes of these pids and all their descendants.

    Where a child ends meanwhile, one that lives may be missing: callers look again.
    """
    waiting = [*roots]
    for pid in waiting:
        with suppress(psutil.NoSuchProcess):
            yield (process := psutil.Process(pid))
            waiting += _list_children(pid) if _has_lists_of_children() else [p.pid for p in process.children()]


def _list_children(pid: int) -> list[int]:
    """Takes a hundredth of the time of looking for parents among all processes of the machine."""
    children: list[int] = []
    with suppress(OSError):  # the process has just ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # this thread has; the children of others count
                children += map(int, (thread / "children").read_bytes().split())
    return children


@cache
def _has_lists_of_children() -> bool:
    """Whether the kernel was built with CONFIG_PROC_CHILDREN."""
    return Path(f"/proc/self/task/{os.getpid()}/children").exists()
