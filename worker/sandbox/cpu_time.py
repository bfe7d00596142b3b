"""CPU seconds of a sandbox's processes, ended ones included.

The kernel adds a process's time to its parent's `cutime` when the parent waits for it, and every orphan gets a parent
that waits: the sandbox's first process. So the sum over the living holds all of the sandbox's time. It would not hold
that of a child whose parent ignores SIGCHLD, which nobody waits for; see docs/decisions/0025-budgets-by-cpu-time.md.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

SNAPSHOTS = 5
"""Attempts at a sum during which no process ends."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class _Stat(NamedTuple):
    """A process in /proc: its parent, and the clock ticks it and its children that were waited for have used."""

    parent: int
    ticks: int


class CpuTime:
    """The CPU seconds of `roots` and all processes below them. Never falls."""

    def __init__(self, roots: Callable[[], Iterable[int]]) -> None:
        self._roots = roots
        self._ticks = 0

    @property
    def last(self) -> float:
        """The result of the last `read`."""
        return self._ticks / _TICKS_PER_SECOND

    def read(self) -> float:
        """The seconds used so far. A process that ends meanwhile may be counted neither itself nor by its parent."""
        for _ in range(SNAPSHOTS):
            before = self._find()
            # Read again, because a process that ended during the first reading may be counted twice.
            after = self._find()
            if before.keys() <= after.keys():
                self._ticks = max(self._ticks, sum(before.values()))
                break
        else:  # processes end all the time: nobody who does that shall gain
            self._ticks = max(self._ticks, sum(before.values()), sum(after.values()))
        return self.last

    def _find(self) -> dict[int, int]:
        """The ticks of each process of the trees."""
        stats = _read_all()
        children: dict[int, list[int]] = {}
        for pid, stat in stats.items():
            children.setdefault(stat.parent, []).append(pid)
        found, waiting = {}, [pid for pid in self._roots() if pid in stats]
        while waiting:
            pid = waiting.pop()
            waiting += children.get(pid, ())
            found[pid] = stats[pid].ticks
        return found


def _read_all() -> dict[int, _Stat]:
    """All processes of this machine by pid."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - a hundred paths are slower to make than to read
        if name.isdecimal():
            try:
                text = Path(f"/proc/{name}/stat").read_bytes()
            except OSError:  # it has just ended
                continue
            fields = text.rpartition(b")")[2].split()  # from the state on, which is field 3 in proc(5)
            found[int(name)] = _Stat(int(fields[1]), sum(map(int, fields[11:15])))
    return found
