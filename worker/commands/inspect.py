"""`status` and `logs`: the current or last state of each worker of a data folder. Imports little, to answer at once."""

import json
from collections.abc import Iterator
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

    def describe(self) -> str:
        """A few lines for people."""
        status = self.status
        if status is None or not self.running:
            ended = f" (since {status.since:%Y-%m-%d %H:%M} UTC)" if status else ""
            return f"{self.name}: not running{ended}"
        share, ending = f", {status.share:.0%}" if status.share else "", f", {status.ending}" if status.ending else ""
        lines = [f"{self.name}: {status.state}{share}{ending}"]
        fields = {name: getattr(status, name) for name in ("job", "trying", "why", "next", "last")}
        lines += [f"  {label:7} {text}" for label, text in fields.items() if text]
        lines.append(f"  in all  {status.totals.describe()}")
        lines.append(f"  so far  {status.runs} runs · {status.outbox} in the outbox · {status.agent} · {status.device}")
        return "\n".join(lines)


def list_reports(data_dir: Path, worker: str | None) -> list[WorkerReport]:
    """Reports on all workers that ever ran with this data folder, or on the one with that name."""
    return [WorkerReport(path.name, is_held(path), read_status(path)) for path in _list_folders(data_dir, worker)]


def render_json(reports: list[WorkerReport]) -> str:
    """An array with an object for each worker."""
    rows = []
    for report in reports:
        fields = report.status.model_dump(mode="json") if report.status else {}
        rows.append({"name": report.name, "running": report.running, **fields})
    return json.dumps(rows, indent=1)


def render_text(reports: list[WorkerReport]) -> str:
    """A few lines for each worker."""
    return "\n".join(report.describe() for report in reports) or "No worker has run with this data folder."


def tail_logs(data_dir: Path, worker: str | None, lines: int) -> Iterator[tuple[str, list[str]]]:
    """The name of each worker that has a log, and the log's last lines."""
    for folder in _list_folders(data_dir, worker):
        path = folder / LOG_FILE
        if path.exists():
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - MAX_TAIL_BYTES))
                yield folder.name, file.read().decode(errors="replace").splitlines()[-lines:]


def _list_folders(data_dir: Path, worker: str | None) -> list[Path]:
    folders = sorted(path for path in (data_dir / "workers").glob("*") if path.is_dir())
    return [folder for folder in folders if worker in (None, folder.name)]
