"""Whether somebody else uses the GPU: with `--when-idle` a worker pauses for them, within seconds.

Programs that compute count, and those that draw if they hold much memory, as games do and a desktop does not.
"""

import os
import time
from collections.abc import Callable

import psutil

from worker.machine.gpu import Driver, DriverError
from worker.sandbox import Gpu

LOOK_SECONDS = 3.0
QUIET_SECONDS = 60.0
"""How long a GPU must have been free before it is used again: between two frames nobody has gone."""

DRAWING_MIB = 1024


def own_processes() -> set[int]:
    """This process and all that descend from it, the sandboxed ones included."""
    here = psutil.Process(os.getpid())
    return {here.pid, *(child.pid for child in here.children(recursive=True))}


class Neighbours:
    """Who else uses a GPU. The driver is asked every few seconds; one that does not answer says nothing."""

    def __init__(
        self,
        driver: Driver,
        gpu: Gpu,
        own: Callable[[], set[int]] = own_processes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._driver, self._gpu, self._own, self._clock = driver, gpu, own, clock
        self._looked_at = self._seen_at = -QUIET_SECONDS - LOOK_SECONDS
        self._who = ""

    def describe(self) -> str | None:
        """Why to pause, as a sentence for people; None while the GPU is this worker's alone."""
        moment = self._clock()
        if moment >= self._looked_at + LOOK_SECONDS:
            self._looked_at = moment
            if who := self._look():
                self._who, self._seen_at = who, moment
        if moment >= self._seen_at + QUIET_SECONDS:
            return None
        return f"Paused while others use the GPU: {self._who} was seen there."

    def _look(self) -> str:
        try:
            processes = self._driver.list_processes(self._gpu)
        except DriverError:
            return ""
        own = self._own() if processes else set()
        for process in processes:
            if process.pid not in own and (process.computes or process.memory_mib >= DRAWING_MIB):
                return f"process {process.pid}"
        return ""
