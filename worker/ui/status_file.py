"""The files that a running worker keeps for other commands: `status.json` and `worker.log` in its folder."""

import io
import os
import time
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import TextIO

from shared.protocol import now
from worker.ui import events
from worker.ui.active_jobs import ActiveJobs
from worker.ui.status import LOG_FILE, STATUS_FILE, Status

MAX_LOG_BYTES = 4 << 20
"""Size of `worker.log` above which a start moves it to `worker.log.1`."""

PROGRESS_SECONDS = 2.0
"""Seconds between two writes of the status while only the progress of a run changes."""


def open_log(worker_folder: Path) -> TextIO:
    """Open the log for appending, after moving a large one to `worker.log.1`."""
    path = worker_folder / LOG_FILE
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return _Log(path)


class _Log(io.TextIOBase, TextIO):
    """A text file to append lines to; lines that do not fit on a full disk are lost without an error."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, text: str) -> int:
        with suppress(OSError):
            os.write(self._descriptor, text.encode())
        return len(text)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


class StatusFile:
    """Implements `EventHandler`: keeps `status.json`. A full disk costs the status and nothing else."""

    def __init__(self, worker_folder: Path) -> None:
        self._path = worker_folder / STATUS_FILE
        self._status: Status | None = None
        self._jobs = ActiveJobs()
        self._written = 0.0
        self._lock = RLock()

    def handle(self, event: events.Event) -> None:
        with self._lock:
            self._handle(event)

    def _handle(self, event: events.Event) -> None:
        changed = self._jobs.apply(event)
        match event:
            case events.WorkerStarted():
                self._status = Status(pid=os.getpid(), since=now(), **vars(event))
                self._update(state="asking for a job")
            case events.WorkerStopped():
                self._jobs = ActiveJobs()
                self._update(**self._describe_jobs() | {"state": "stopped"})
            case events.JobClaimed() | events.ExperimentProposed() | events.JobDropped():
                self._update(**self._describe_jobs())
            case events.JobProgressed() if changed or time.monotonic() > self._written + PROGRESS_SECONDS:
                self._update(**self._describe_jobs())
            case events.RunFinished(summary) if self._status is not None:
                parts = (summary.metric, summary.effect, summary.title, summary.place)
                last = " · ".join(part for part in parts if part)
                runs, totals = self._status.runs + 1, summary.add_to(self._status.totals)
                self._update(**self._describe_jobs(), runs=runs, totals=totals, last=last)
            case events.WaitStarted(reason):
                self._update(state=reason)
            case events.AgentTrouble(text):
                self._update(trouble=text or None)
            case events.OutboxChanged(waiting):
                self._update(outbox=waiting)
            case events.StopRequested(is_now):
                self._update(ending="stops now" if is_now else "ends after this run")

    def _describe_jobs(self) -> dict[str, object]:
        job, others = self._jobs.current, self._jobs.others
        if job is None:
            empty = dict.fromkeys(("project", "job", "trying", "author", "why", "next"))
            return {"state": "asking for a job", **empty}
        return {
            "state": job.phase.value, "project": job.lease.project, "job": job.name, "trying": job.trying or None,
            "author": job.agent or None, "why": job.lease.why, "pace": job.lease.pace, "step": job.progress.step,
            "loss": job.progress.loss, "share": job.progress.share,
            "next": next((other.line for other in others if other.is_next), None),
        }  # fmt: skip

    def _update(self, **changes: object) -> None:
        if self._status is None:
            return
        self._written = time.monotonic()
        since = {"since": now()} if changes.get("state") not in (None, self._status.state) else {}
        self._status = self._status.model_copy(update={**changes, **since})
        temporary = self._path.with_suffix(".tmp")
        with suppress(OSError):
            temporary.write_text(self._status.model_dump_json(indent=1), encoding="utf-8")
            temporary.replace(self._path)
