"""The clock that counts a run's budget: wall time, or CPU time of the trainer's processes."""

import math
import time

from shared.contract import BudgetClock
from worker.runs.harness_process import HarnessProcess

READ_INTERVAL_SECONDS = 0.1
"""A reading of the CPU's clock, which goes through all processes of the machine, is used again for so long."""

SHORTEST_WAIT_SECONDS = 0.02


class RunClock:
    """Seconds since an arbitrary moment, and since `start_budget`."""

    def __init__(self, kind: BudgetClock, trainer: HarnessProcess, cores: int) -> None:
        """`cores` is how many CPU seconds a second of wall time has at most."""
        self.kind, self._trainer, self._cores = kind, trainer, cores
        self._reading, self._read_at = 0.0, -math.inf
        self._edited_at: float | None = None
        self._started_at: float | None = None

    def begin_edited(self) -> None:
        """From now on the edited file runs."""
        self._edited_at = self._begin()

    def start_budget(self) -> None:
        self._started_at = self._begin()

    @property
    def before_start(self) -> float | None:
        """Seconds from `begin_edited` to `start_budget`; None before."""
        return None if self._edited_at is None or self._started_at is None else self._started_at - self._edited_at

    def used(self, newest: bool = False) -> float:
        """Seconds of the budget that are used, 0 before its start; `newest` asks for a new reading."""
        if self._started_at is None:
            return 0.0
        return self._read(0 if newest else READ_INTERVAL_SECONDS) - self._started_at

    def shortest_wait(self, limit: float) -> float:
        """Wall seconds in which no more than `limit` seconds of the budget can be used."""
        return max(SHORTEST_WAIT_SECONDS, (limit - self.used()) / (self._cores if self.kind is BudgetClock.CPU else 1))

    def _begin(self) -> float:
        """The moment from which something counts: what cannot be told apart from earlier use counts, too."""
        return time.monotonic() if self.kind is BudgetClock.WALL else self._trainer.cpu_seconds().least

    def _read(self, interval: float) -> float:
        if self.kind is BudgetClock.WALL:
            return time.monotonic()
        if time.monotonic() >= self._read_at + interval:
            self._reading, self._read_at = self._trainer.cpu_seconds().most, time.monotonic()
        return self._reading
