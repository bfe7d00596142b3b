"""The format of `status.json`, by which other commands know a worker's state. Imports little: they answer at once."""

from pathlib import Path

from pydantic import Field, ValidationError

from shared.protocol import Message, Timestamp

STATUS_FILE, LOG_FILE = "status.json", "worker.log"


class Totals(Message):
    """Counts of a worker's runs on all projects. Seconds are the device's."""

    runs: int = Field(default=0, ge=0)
    improved: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    stopped: int = Field(default=0, ge=0)
    device_seconds: float = Field(default=0.0, ge=0)
    saved_seconds: float = Field(default=0.0, ge=0)

    def describe(self) -> str:
        """`12 runs: 3 improved, 2 failed, 1 stopped early · 1.4 h, 6 % saved`."""
        kinds = ((self.improved, "improved"), (self.failed, "failed"), (self.stopped, "stopped early"))
        parts = ", ".join(f"{count} {word}" for count, word in kinds if count)
        runs = f"{self.runs} run{'' if self.runs == 1 else 's'}" + (f": {parts}" if parts else "")
        hours = self.device_seconds / 3600
        time = f"{hours:.1f} h" if hours >= 1 else f"{self.device_seconds / 60:.0f} min"
        saved = self.saved_seconds / (self.device_seconds + self.saved_seconds) if self.saved_seconds else 0.0
        return f"{runs} · {time}" + (f", {saved:.0%} saved" if saved else "")


class Status(Message):
    """The current state of a worker.

    `state` is a phase, or the reason why it waits; `ending` says how it stops, if requested; `next` is the job that is
    prepared meanwhile; `runs` counts this process's runs, `totals` all runs.
    """

    pid: int
    worker: str
    device: str
    sandbox: str
    agent: str
    coordinator: str
    state: str = "starting"
    ending: str | None = None
    since: Timestamp
    project: str | None = None
    job: str | None = None
    trying: str | None = None
    why: str | None = None
    next: str | None = None
    step: int = 0
    loss: float | None = None
    share: float = 0.0
    runs: int = Field(default=0, ge=0)
    totals: Totals = Totals()
    outbox: int = Field(default=0, ge=0)
    last: str | None = None

    @property
    def state_text(self) -> str:
        """The state, and how the worker stops if that was requested."""
        return f"{self.state}, {self.ending}" if self.ending else self.state


def read_status(worker_folder: Path) -> Status | None:
    """The last status of a worker, running or not; None if there is none that can be read."""
    try:
        return Status.model_validate_json((worker_folder / STATUS_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
