"""What a person sees of a worker: events, told to one of two views.

Off a terminal each event is one `key=value` line, messages on stderr and results on stdout (terminal.py is the
other view). Nothing here decides anything.
"""

import sys
from dataclasses import dataclass, field
from typing import Protocol, TextIO
from uuid import UUID

import structlog

from shared.experiments import Proposal
from shared.leases import Lease, Phase
from worker.runs import Progress
from worker.ui.receipts import Receipt
from worker.ui.status import Totals

STOP_AFTER = "finishing this run and reporting it; once more (Ctrl-C or SIGTERM) stops now"
STOP_NOW = "stopping now; the job is given back"


@dataclass(frozen=True)
class About:
    """A worker, for people; `totals` are of what it did before."""

    worker: str
    device: str
    sandbox: str
    agent: str
    coordinator: str
    totals: Totals = field(default_factory=Totals)


class Monitor(Protocol):
    """Shows what a worker does. Its methods may be called from several threads.

    A worker has up to two jobs: one is measured while the next is drafted. A job begins with `take`, and ends with
    `receipt` or `drop`.
    """

    def start(self, about: About) -> None:
        """The worker has started."""

    def finish(self) -> None:
        """The worker ends: leave the terminal as it was."""

    def take(self, lease: Lease) -> None:
        """A job was claimed."""

    def propose(self, lease: Lease, proposal: Proposal) -> None:
        """The agent has drafted an experiment."""

    def progress(self, lease: Lease, progress: Progress) -> None:
        """The job has come so far."""

    def drop(self, lease: Lease) -> None:
        """The job was given back, or is no longer ours."""

    def receipt(self, receipt: Receipt) -> None:
        """A run is finished, and delivered or kept."""

    def wait(self, reason: str, seconds: float) -> None:
        """There is nothing to do for so long."""

    def outbox(self, waiting: int) -> None:
        """So many results wait to be delivered."""

    def stop(self, now: bool) -> None:
        """A person asked the worker to stop: after this run, or `now`."""

    def note(self, text: str) -> None:
        """Something that a person may want to know."""

    def warn(self, text: str) -> None:
        """Something that a person should know."""


class PlainMonitor:
    """One line per event, for logs."""

    def __init__(self, messages: TextIO = sys.stderr, results: TextIO = sys.stdout) -> None:
        self._messages = _line_log(messages)
        self._results = _line_log(results)
        self._phases: dict[UUID, Phase] = {}
        self._waiting = 0

    def start(self, about: About) -> None:
        self._messages.info(
            "started",
            worker=about.worker,
            device=about.device,
            sandbox=about.sandbox,
            agent=about.agent,
            coordinator=about.coordinator,
        )

    def finish(self) -> None:
        self._messages.info("stopped")

    def take(self, lease: Lease) -> None:
        self._messages.info(
            "job",
            id=_name(lease),
            project=lease.project,
            kind=lease.kind.value,
            base=lease.base.sha[:10],
            branch=lease.branch,
            why=lease.why,
        )

    def propose(self, lease: Lease, proposal: Proposal) -> None:
        self._messages.info("proposed", job=_name(lease), title=proposal.title, hypothesis=proposal.hypothesis)

    def progress(self, lease: Lease, progress: Progress) -> None:
        if progress.phase is not self._phases.get(lease.id):
            self._phases[lease.id] = progress.phase
            self._messages.info("phase", job=_name(lease), phase=progress.phase.value)

    def drop(self, lease: Lease) -> None:
        self._phases.pop(lease.id, None)
        self._messages.info("dropped", job=_name(lease))

    def receipt(self, receipt: Receipt) -> None:
        report = receipt.report
        self._phases.pop(receipt.lease.id, None)
        self._results.info(
            "run",
            job=_name(receipt.lease),
            kind=receipt.lease.kind.value,
            title=receipt.title,
            sha=report.commit_sha[:10],
            outcome=report.outcome.value,
            **({} if report.metric is None else {receipt.contract.objective.metric: f"{report.metric:.4f}"}),
            **({"effect": receipt.effect} if receipt.effect else {}),
            parent=receipt.parent,
            seconds=f"{report.seconds.total:.1f}",
            place=receipt.place,
            **({"reason": report.reason} if report.reason else {}),
        )

    def wait(self, reason: str, seconds: float) -> None:
        self._messages.info("waiting", reason=reason, seconds=round(seconds))

    def outbox(self, waiting: int) -> None:
        if waiting != self._waiting:
            self._waiting = waiting
            self._messages.info("outbox", waiting=waiting)

    def stop(self, now: bool) -> None:
        self._messages.info("stopping", how=STOP_NOW if now else STOP_AFTER)

    def note(self, text: str) -> None:
        self._messages.info(text)

    def warn(self, text: str) -> None:
        self._messages.warning(text)


def _name(lease: Lease) -> str:
    """Enough of a lease's id to tell two jobs apart."""
    return str(lease.id)[:8]


def clean(text: str) -> str:
    """A text on one line, without control characters: much of what is shown was written by strangers."""
    return "".join(c if c.isprintable() else " " for c in text)


def _clean_values(_log: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: clean(value) if isinstance(value, str) else value for key, value in event.items()}


def _line_log(file: TextIO) -> structlog.typing.FilteringBoundLogger:
    """A logger of one file: time, level, event, then the rest as `key=value`."""
    log: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(file),
        processors=[
            _clean_values,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
    return log
