"""The view of a worker off a terminal: one `key=value` line per event, messages on stderr and results on stdout."""

import sys
from contextlib import suppress
from threading import Lock
from typing import TextIO
from uuid import UUID

import structlog

from shared.formatting import clean, format_run
from shared.leases import GrantedLease, Phase
from worker.ui import events
from worker.ui.events import RunSummary

STOP_AFTER = "finishing this run and reporting it; Ctrl-C or SIGTERM again stops now"
STOP_NOW = "stopping now; the job is given back"


class PlainView:
    """Implements `EventHandler`: one line per event, for logs.

    Lines that cannot be written (a reader that ended, a full disk) are lost, and the worker goes on.
    """

    def __init__(self, messages: TextIO = sys.stderr, results: TextIO = sys.stdout) -> None:
        self._messages = _line_log(messages)
        self._results = _line_log(results)
        self._phases: dict[UUID, Phase] = {}
        self._waiting = 0
        self._lock = Lock()

    def handle(self, event: events.Event) -> None:
        with self._lock, suppress(OSError):
            self._handle(event)

    def _handle(self, event: events.Event) -> None:
        log = self._messages.info
        match event:
            case events.WorkerStarted(worker, device, sandbox, agent, coordinator):
                log("started", worker=worker, device=device, sandbox=sandbox, agent=agent, coordinator=coordinator)
            case events.WorkerStopped():
                log("stopped")
            case events.JobClaimed(lease):
                about = {"project": lease.project, "kind": lease.kind.value, "base": lease.base.sha[:10]}
                about |= {"rung": lease.rung} if lease.rung else {}
                log("job", id=_short_id(lease), **about, branch=lease.branch, why=lease.why)
            case events.ExperimentProposed(lease, proposal, agent):
                words = {"title": proposal.title, "hypothesis": proposal.hypothesis}
                log("proposed", job=_short_id(lease), agent=agent, **words)
            case events.JobProgressed(lease, progress) if progress.phase is not self._phases.get(lease.id):
                self._phases[lease.id] = progress.phase
                log("phase", job=_short_id(lease), phase=progress.phase.value)
            case events.JobDropped(lease):
                self._phases.pop(lease.id, None)
                log("dropped", job=_short_id(lease))
            case events.RunFinished(summary):
                self._log_run(summary)
            case events.WaitStarted(reason, seconds):
                log("waiting", reason=reason, seconds=round(seconds))
            case events.AgentTrouble(text):
                (self._messages.warning if text else log)("agent", trouble=text or "none: it works again")
            case events.OutboxChanged(waiting) if waiting != self._waiting:
                self._waiting = waiting
                log("outbox", waiting=waiting)
            case events.StopRequested(now):
                log("stopping", how=STOP_NOW if now else STOP_AFTER)
            case events.Notice(text, is_warning):
                (self._messages.warning if is_warning else log)(text)

    def _log_run(self, summary: RunSummary) -> None:
        report = summary.report
        self._phases.pop(summary.lease.id, None)
        self._results.info(
            "run",
            job=_short_id(summary.lease),
            kind=summary.lease.kind.value,
            title=summary.title,
            **({"agent": summary.agent} if summary.agent else {}),
            sha=report.commit_sha[:10],
            outcome=report.outcome.value,
            **({} if report.metric is None else {summary.contract.objective.metric: format_run(report.metric)}),
            **({"effect": summary.effect} if summary.effect else {}),
            parent=summary.parent,
            seconds=f"{report.seconds.total:.1f}",
            place=summary.place,
            **({"reason": report.reason} if report.reason else {}),
        )


def _short_id(lease: GrantedLease) -> str:
    return str(lease.id)[:8]


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
