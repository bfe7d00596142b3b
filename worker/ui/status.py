"""`status.json` and `worker.log`, by which other commands know a worker. Imports little: they answer at once."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import Field, ValidationError

from shared.formatting import clean, format_local
from shared.protocol import Message, Timestamp, now
from worker.loop.lock import is_held, list_folders

STATUS_FILE, LOG_FILE = "status.json", "worker.log"
OLD_AFTER = timedelta(days=7)
"""Time after its end from which a worker is not listed any more, unless by its name."""

MAX_TAIL_BYTES = 1 << 20
"""Bytes at the end of a log that are read."""


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
    prepared meanwhile; `author` is the agent that had the idea, `trouble` what is wrong with the worker's agent for a
    while, although the worker works; `pace` is the job's budget in units of the contract's; `runs` counts this
    process's runs, `totals` all runs.
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
    author: str | None = None
    trouble: str | None = None
    why: str | None = None
    next: str | None = None
    step: int = 0
    loss: float | None = None
    share: float = 0.0
    pace: float = 1.0
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


@dataclass(frozen=True)
class WorkerReport:
    """A worker, whether it runs, and its last status."""

    name: str
    running: bool
    status: Status | None

    @property
    def is_old(self) -> bool:
        return not self.running and (self.status is None or now() - self.status.since > OLD_AFTER)

    def to_json(self) -> dict[str, object]:
        """The worker's name, whether it runs, and the fields of its status."""
        fields = self.status.model_dump(mode="json") if self.status else {}
        return {"name": self.name, "running": self.running, **fields}

    def describe(self) -> str:
        """A few lines for people."""
        status = self.status
        if status is None or not self.running:
            ended = f" (since {format_local(status.since)})" if status else ""
            return f"{self.name}: not running{ended}"
        share = f", {status.share:.0%}" if status.share else ""
        lines = [f"{self.name}: {status.state_text}{share}"]
        lines += [f"  trouble {status.trouble}"] if status.trouble else []
        fields = {name: getattr(status, name) for name in ("job", "trying", "author", "why", "next", "last")}
        lines += [f"  {label:7} {text}" for label, text in fields.items() if text]
        if status.job:
            lines.append(f"  pace    {status.pace:.2f} of the project's training budget")
        lines.append(f"  in all  {status.totals.describe()}")
        lines.append(f"  so far  {status.runs} runs · {status.outbox} in the outbox · {status.agent} · {status.device}")
        return "\n".join(map(clean, lines))


def list_reports(data_dir: Path, worker: str | None) -> list[WorkerReport]:
    """Reports on the workers of this data folder that run, or did within OLD_AFTER, or on the one with that name."""
    found = [WorkerReport(path.name, is_held(path), read_status(path)) for path in list_folders(data_dir, worker)]
    return [report for report in found if worker is not None or not report.is_old]


def tail_logs(data_dir: Path, worker: str | None, lines: int) -> dict[str, list[str]]:
    """The last lines of each worker's log, by the worker's name."""
    tails = {}
    for folder in list_folders(data_dir, worker):
        path = folder / LOG_FILE
        if path.exists():
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - MAX_TAIL_BYTES))
                tails[folder.name] = file.read().decode(errors="replace").splitlines()[-lines:]
    return tails
