"""`status` and `logs`: what each worker of a data folder does, or did last."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.loop.control import Control
from worker.ui.status import LOG_FILE, Status, read_status

TAIL_BYTES = 1 << 20


@dataclass(frozen=True)
class State:
    """A worker, whether it runs, and its last status."""

    name: str
    running: bool
    status: Status | None


def list_states(data_dir: Path, worker: str | None) -> list[State]:
    """The workers that ever ran with this data folder."""
    return [State(path.name, Control(path).is_running(), read_status(path)) for path in _folders(data_dir, worker)]


def render_json(states: list[State]) -> str:
    """An array with an object for each worker."""
    rows = []
    for state in states:
        told = state.status.model_dump(mode="json") if state.status else {}
        rows.append({"name": state.name, "running": state.running, **told})
    return json.dumps(rows, indent=1)


def render_text(states: list[State]) -> str:
    """A few lines for each worker."""
    return "\n".join(_describe(state) for state in states) or "No worker has run with this data folder."


def tail_logs(data_dir: Path, worker: str | None, lines: int) -> Iterator[tuple[str, list[str]]]:
    """The name of each worker that has a log, and the log's last lines."""
    for folder in _folders(data_dir, worker):
        path = folder / LOG_FILE
        if path.exists():
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - TAIL_BYTES))
                yield folder.name, file.read().decode(errors="replace").splitlines()[-lines:]


def _folders(data_dir: Path, worker: str | None) -> list[Path]:
    folders = sorted(path for path in (data_dir / "workers").glob("*") if path.is_dir())
    return [folder for folder in folders if worker in (None, folder.name)]


def _describe(state: State) -> str:
    status = state.status
    if status is None or not state.running:
        ended = f" (since {status.since:%Y-%m-%d %H:%M} UTC)" if status else ""
        return f"{state.name}: not running{ended}"
    lines = [f"{state.name}: {status.state}" + (f", {status.share:.0%}" if status.share else "")]
    lines[0] += f", {status.ending}" if status.ending else ""
    told = {name: getattr(status, name) for name in ("job", "trying", "why", "next", "last")}
    lines += [f"  {label:7} {text}" for label, text in told.items() if text]
    lines.append(f"  in all  {status.totals.describe()}")
    lines.append(f"  so far  {status.runs} runs · {status.outbox} in the outbox · {status.agent} · {status.device}")
    return "\n".join(lines)
