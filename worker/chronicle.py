"""What a running worker leaves for other commands to read: `status.json` and `worker.log` in its folder."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from pydantic import Field, ValidationError

from shared.experiments import Proposal
from shared.leases import Lease
from shared.protocol import Message, Timestamp, now
from worker.monitor import About, Monitor, Receipt
from worker.training import Progress

STATUS_FILE, LOG_FILE = "status.json", "worker.log"
MAX_LOG_BYTES = 4 << 20
PROGRESS_SECONDS = 2.0


class Status(Message):
    """What a worker does now. `state` is a phase, or why it waits, in words."""

    pid: int
    worker: str
    device: str
    sandbox: str
    agent: str
    coordinator: str
    state: str = "starting"
    since: Timestamp
    project: str | None = None
    job: str | None = None
    trying: str | None = None
    why: str | None = None
    step: int = 0
    loss: float | None = None
    share: float = 0.0
    runs: int = Field(default=0, ge=0)
    outbox: int = Field(default=0, ge=0)
    last: str | None = None


def read_status(worker_folder: Path) -> Status | None:
    """The last status of a worker, running or not; None where there is none that can be read."""
    try:
        return Status.model_validate_json((worker_folder / STATUS_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def open_log(worker_folder: Path) -> TextIO:
    """The log, to be appended to; one that has grown large is kept once, under another name."""
    path = worker_folder / LOG_FILE
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("a", encoding="utf-8", buffering=1)


class StatusMonitor:
    """Implements `Monitor`: keeps `status.json`. A disk that is full costs the status and nothing else."""

    def __init__(self, worker_folder: Path) -> None:
        self._path = worker_folder / STATUS_FILE
        self._status: Status | None = None
        self._written = 0.0

    def start(self, about: About) -> None:
        self._status = Status(
            pid=os.getpid(),
            worker=about.worker,
            device=about.device,
            sandbox=about.sandbox,
            agent=about.agent,
            coordinator=about.coordinator,
            since=now(),
        )
        self._update(state="asking for a job")

    def finish(self) -> None:
        self._update(state="stopped", project=None, job=None, trying=None)

    def take(self, lease: Lease) -> None:
        job = f"{lease.kind.value} {lease.base.sha[:10]} on {lease.branch}"
        self._update(state="drafting", project=lease.project, job=job, why=lease.why, trying=None, share=0.0, step=0)

    def propose(self, proposal: Proposal) -> None:
        self._update(trying=proposal.title)

    def progress(self, progress: Progress) -> None:
        assert self._status is not None
        changed = progress.phase.value != self._status.state
        if changed or time.monotonic() > self._written + PROGRESS_SECONDS:
            self._update(state=progress.phase.value, step=progress.step, loss=progress.loss, share=progress.share)

    def receipt(self, receipt: Receipt) -> None:
        assert self._status is not None
        last = f"{receipt.metric} · {receipt.title} · {receipt.place}"
        self._update(runs=self._status.runs + 1, last=last, state="asking for a job", job=None, trying=None)

    def wait(self, reason: str, seconds: float) -> None:  # noqa: ARG002 - the Protocol's
        self._update(state=reason, job=None, trying=None)

    def outbox(self, waiting: int) -> None:
        self._update(outbox=waiting)

    def stop(self, now: bool) -> None:
        self._update(state="stopping now" if now else "finishing this run")

    def note(self, text: str) -> None:
        """Not kept here: the log has it."""

    def warn(self, text: str) -> None:
        """Not kept here: the log has it."""

    def _update(self, **changes: object) -> None:
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

    def propose(self, proposal: Proposal) -> None:
        for monitor in self._monitors:
            monitor.propose(proposal)

    def progress(self, progress: Progress) -> None:
        for monitor in self._monitors:
            monitor.progress(progress)

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
