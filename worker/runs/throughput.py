"""How many tokens a second a project's seed sees on this device, by which the coordinator normalises budgets.

    throughput.json    in the worker's folder: the readings of each seed on this hardware

A reading comes from a short probe, or from a real run of the seed. The first part of either is left out: a device warms
up in it. What is sent is a median of the last readings, and stays while a new one differs little: each change of it
changes the budget, and with it what this worker measures.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median

from pydantic import Field, ValidationError

from shared.protocol import Message, Sha
from shared.runs import Hardware, RunOutcome, RunReport, Throughput

PROBE_SECONDS = 8.0
PROBE_SHARE = 1 / 8
"""A probe trains for PROBE_SECONDS on the budget's clock, and at most this share of the budget."""

SHORTEST_PROBE_SECONDS = 1.0
"""Projects whose budgets would give shorter probes have none, and no normalised budget."""

WARM_UP_SHARE = 1 / 3
PROBE_AGAIN_SECONDS = 4 * 3600.0
READINGS = 5
SAME_THROUGHPUT = 0.03
"""A median that differs by a smaller share from what was sent changes nothing."""

MOST_SEEDS = 16


class SeedReadings(Message):
    """The readings of one seed, newest last, and what is sent; `read_at` is in seconds since the epoch. A seed that
    cannot be probed has no readings."""

    readings: list[Throughput] = Field(default=[], max_length=READINGS)
    sent: Throughput | None = None
    read_at: float

    def add(self, reading: float | None, read_at: float) -> "SeedReadings":
        if reading is None:
            return self.model_copy(update={"read_at": read_at})
        readings = [*self.readings, reading][-READINGS:]
        middle = median(readings)
        is_same = self.sent is not None and abs(middle / self.sent - 1) < SAME_THROUGHPUT
        return SeedReadings(readings=readings, sent=self.sent if is_same else middle, read_at=read_at)


class StoredReadings(Message):
    """The content of `throughput.json`. `newest` names the seed of the last reading."""

    hardware: Hardware
    seeds: dict[Sha, SeedReadings] = Field(default_factory=dict)
    newest: Sha | None = None


class SeedThroughputs:
    """The throughput of seeds on one device. Readings of other hardware are forgotten. For one writing thread."""

    def __init__(self, path: Path | None, hardware: Hardware, clock: Callable[[], float] = time.time) -> None:
        """Without a `path` they are in memory only."""
        self._path, self._clock = path, clock
        self._stored = StoredReadings(hardware=hardware)
        if path is not None:
            with suppress(OSError, ValidationError):
                stored = StoredReadings.model_validate_json(path.read_bytes())
                if stored.hardware == hardware:
                    self._stored = stored

    @property
    def newest(self) -> tuple[Sha | None, float | None]:
        """The seed's root commit, and what is sent: None where it cannot be probed."""
        sha = self._stored.newest
        return sha, self._stored.seeds[sha].sent if sha in self._stored.seeds else None

    def is_due(self, root_sha: Sha) -> bool:
        """Whether a seed that was read before should be read again."""
        known = self._stored.seeds.get(root_sha)
        return known is not None and not 0 <= self._clock() - known.read_at < PROBE_AGAIN_SECONDS

    def add(self, root_sha: Sha, reading: float | None) -> None:
        """Keep a reading; None: it cannot be probed."""
        known = self._stored.seeds.get(root_sha, SeedReadings(read_at=0.0))
        others = {sha: seed for sha, seed in self._stored.seeds.items() if sha != root_sha}
        kept = dict(list(others.items())[-MOST_SEEDS + 1 :])
        seeds = kept | {root_sha: known.add(reading, self._clock())}
        self._stored = self._stored.model_copy(update={"seeds": seeds, "newest": root_sha})
        if self._path is not None:
            temporary = self._path.with_suffix(".tmp")
            with suppress(OSError):  # on a full disk it is measured again by the next process
                temporary.write_text(self._stored.model_dump_json(), encoding="utf-8")
                temporary.replace(self._path)


def choose_probe_seconds(training_seconds: float, cores: int) -> float | None:
    """Length of a probe on the budget's clock, of which `cores` seconds pass in one; None: too short for a probe."""
    seconds = min(PROBE_SECONDS * cores, PROBE_SHARE * training_seconds)
    return seconds if seconds >= SHORTEST_PROBE_SECONDS else None


def read_throughput(report: RunReport) -> float | None:
    """Tokens, else steps, a second in a run after its warm-up; None where there are too few points."""
    points = [point for point in report.curve if point.seconds >= WARM_UP_SHARE * report.seconds.on_budget]
    if report.outcome is not RunOutcome.OK or len(points) < 2 or report.steps <= 0:
        return None
    seconds = points[-1].seconds - points[0].seconds
    steps = points[-1].step - points[0].step
    each = report.tokens / report.steps if report.tokens else 1.0
    return each * steps / seconds if seconds > 0 and steps > 0 else None
