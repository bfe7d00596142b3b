"""What a running worker leaves for other commands to read: `status.json` and `worker.log` in its folder."""

import io
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import TextIO

from shared.experiments import Proposal
from shared.leases import Lease
from shared.protocol import now
from worker.runs import Progress
from worker.ui.active_jobs import Board
from worker.ui.plain import About, Monitor
from worker.ui.receipts import Receipt
from worker.ui.status import LOG_FILE, STATUS_FILE, Status

MAX_LOG_BYTES = 4 << 20
PROGRESS_SECONDS = 2.0


def open_log(worker_folder: Path) -> TextIO:
    """The log, to be appended to; one that has grown large is kept once, under another name."""
    path = worker_folder / LOG_FILE
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return _Log(path)


class _Log(io.TextIOBase, TextIO):
    """A text file to append lines to. What a full disk does not take is lost, and nobody who writes hears of it."""

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


class StatusMonitor:
    """Implements `Monitor`: keeps `status.json`. A disk that is full costs the status and nothing else."""

    def __init__(self, worker_folder: Path) -> None:
        self._path = worker_folder / STATUS_FILE
        self._status: Status | None = None
        self._board = Board()
        self._written = 0.0
        self._lock = RLock()

    def start(self, about: About) -> None:
        self._status = Status(
            pid=os.getpid(),
            worker=about.worker,
            device=about.device,
            sandbox=about.sandbox,
            agent=about.agent,
            coordinator=about.coordinator,
            totals=about.totals,
            since=now(),
        )
        self._update(state="asking for a job")

    def finish(self) -> None:
        with self._lock:
            self._board = Board()
            self._update(state="stopped", **self._jobs())

    def take(self, lease: Lease) -> None:
        with self._lock:
            self._board.take(lease)
            self._update_jobs()

    def propose(self, lease: Lease, proposal: Proposal) -> None:
        with self._lock:
            self._board.propose(lease, proposal)
            self._update_jobs()

    def progress(self, lease: Lease, progress: Progress) -> None:
        with self._lock:
            changed = self._board.progress(lease, progress)
            if changed or time.monotonic() > self._written + PROGRESS_SECONDS:
                self._update_jobs()

    def drop(self, lease: Lease) -> None:
        with self._lock:
            self._board.end(lease)
            self._update_jobs()

    def receipt(self, receipt: Receipt) -> None:
        with self._lock:
            assert self._status is not None
            self._board.end(receipt.lease)
            parts = (receipt.metric, receipt.effect, receipt.title, receipt.place)
            last = " · ".join(part for part in parts if part)
            self._update_jobs(runs=self._status.runs + 1, totals=receipt.add_to(self._status.totals), last=last)

    def wait(self, reason: str, seconds: float) -> None:  # noqa: ARG002 - the Protocol's
        self._update(state=reason)

    def outbox(self, waiting: int) -> None:
        self._update(outbox=waiting)

    def stop(self, now: bool) -> None:
        self._update(ending="stops now" if now else "ends after this run")

    def note(self, text: str) -> None:
        """Not kept here: the log has it."""

    def warn(self, text: str) -> None:
        """Not kept here: the log has it."""

    def _update_jobs(self, **changes: object) -> None:
        current = self._board.current
        self._update(state=current.phase.value if current else "asking for a job", **self._jobs(), **changes)

    def _jobs(self) -> dict[str, object]:
        """What is to be told of the jobs."""
        job, others = self._board.current, self._board.others
        if job is None:
            return {"project": None, "job": None, "trying": None, "why": None, "next": None}
        progress = job.progress
        return {
            "project": job.lease.project,
            "job": job.name,
            "trying": job.trying or None,
            "why": job.lease.why,
            "step": progress.step if progress else 0,
            "loss": progress.loss if progress else None,
            "share": progress.share if progress else 0.0,
            "next": next((other.aside for other in others if other.is_next), None),
        }

    def _update(self, **changes: object) -> None:
        with self._lock:
            if self._status is None:
                return
            self._written = time.monotonic()
            since = {"since": now()} if changes.get("state") not in (None, self._status.state) else {}
            self._status = self._status.model_copy(update={**changes, **since})
            temporary = self._path.with_suffix(".tmp")
            try:
                temporary.write_text(self._status.model_dump_json(indent=1), encoding="utf-8")
                temporary.replace(self._path)
            except OSError:
                return


class Several:
    """Implements `Monitor`: tells each of several."""

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self._monitors = monitors

    def start(self, about: About) -> None:
        for monitor in self._monitors:
            monitor.start(about)

    def finish(self) -> None:
        for monitor in self._monitors:
            monitor.finish()

    def take(self, lease: Lease) -> None:
        for monitor in self._monitors:
            monitor.take(lease)

    def propose(self, lease: Lease, proposal: Proposal) -> None:
        for monitor in self._monitors:
            monitor.propose(lease, proposal)

    def progress(self, lease: Lease, progress: Progress) -> None:
        for monitor in self._monitors:
            monitor.progress(lease, progress)

    def drop(self, lease: Lease) -> None:
        for monitor in self._monitors:
            monitor.drop(lease)

    def receipt(self, receipt: Receipt) -> None:
        for monitor in self._monitors:
            monitor.receipt(receipt)

    def wait(self, reason: str, seconds: float) -> None:
        for monitor in self._monitors:
            monitor.wait(reason, seconds)

    def outbox(self, waiting: int) -> None:
        for monitor in self._monitors:
            monitor.outbox(waiting)

    def stop(self, now: bool) -> None:
        for monitor in self._monitors:
            monitor.stop(now)

    def note(self, text: str) -> None:
        for monitor in self._monitors:
            monitor.note(text)

    def warn(self, text: str) -> None:
        for monitor in self._monitors:
            monitor.warn(text)
