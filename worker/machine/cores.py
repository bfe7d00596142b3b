"""Which CPU cores a run may use: workers of one user share a machine without sharing a core, as long as they can."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def claim_cores(count: int) -> Iterator[frozenset[int]]:
    """Hold `count` of the cores this process may run on, or all of them if it has fewer.

    Cores that no other worker of this user holds come first. A claim ends with this block or with the process.
    """
    folder = Path(tempfile.gettempdir(), f"swarm-cores-{os.geteuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    free: list[int] = []
    taken: list[int] = []
    with ExitStack() as stack:
        for core in sorted(os.sched_getaffinity(0)):
            if len(free) == count:
                break
            file = stack.enter_context((folder / str(core)).open("w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                taken.append(core)
            else:
                free.append(core)
        yield frozenset((free + taken)[:count])
