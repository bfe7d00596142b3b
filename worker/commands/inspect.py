"""`status` and `logs`: the current or last state of each worker of a data folder. Imports little, to answer at once."""

from dataclasses import dataclass
from pathlib import Path

from worker.loop.lock import is_held
from worker.ui.status import LOG_FILE, Status, read_status

MAX_TAIL_BYTES = 1 << 20
"""Bytes at the end of a log that are read."""


@dataclass(frozen=True)
class WorkerReport:
    """A worker, whether it runs, and its last status."""

    name: str
    running: bool
    status: Status | None

    def to_json(self) -> dict[str, object]:
        """The worker's name, whether it runs, and the fields of its status."""
        fields = self.status.model_dump(mode="json") if self.status else {}
        return {"name": self.name, "running": self.running, **fields}

    def describe(self) -> str:
        """A few lines for people."""
        status = self.status
        if status is None or not self.running:
            ended = f" (since {status.since:%Y-%m-%d %H:%M} UTC)" if status else ""
            return f"{self.name}: not running{ended}"
        share = f", {status.share:.0%}" if status.share else ""
        lines = [f"{self.name}: {status.state_text}{share}"]
        fields = {name: getattr(status, name) for name in ("job", "trying", "why", "next", "last")}
        lines += [f"  {label:7} {text}" for label, text in fields.items() if text]
        lines.append(f"  in all  {status.totals.describe()}")
        lines.append(f"  so far  {status.runs} runs · {status.outbox} in the outbox · {status.agent} · {status.device}")
        return "\n".join(lines)


def list_reports(data_dir: Path, worker: str | None) -> list[WorkerReport]:
    """Reports on all workers that ever ran with this data folder, or on the one with that name."""
    return [WorkerReport(path.name, is_held(path), read_status(path)) for path in _list_folders(data_dir, worker)]


def tail_logs(data_dir: Path, worker: str | None, lines: int) -> dict[str, list[str]]:
    """The last lines of each worker's log, by the worker's name."""
    tails = {}
    for folder in _list_folders(data_dir, worker):
        path = folder / LOG_FILE
        if path.exists():
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - MAX_TAIL_BYTES))
                tails[folder.name] = file.read().decode(errors="replace").splitlines()[-lines:]
    return tails


def _list_folders(data_dir: Path, worker: str | None) -> list[Path]:
    folders = sorted(path for path in (data_dir / "workers").glob("*") if path.is_dir())
    return [folder for folder in folders if worker in (None, folder.name)]
