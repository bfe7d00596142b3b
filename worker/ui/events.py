"""Events of a worker, which views, logs and reporters handle, and the summary of a finished run.

A job begins with `JobClaimed` and ends with `RunFinished` or `JobDropped`; one is measured while the next is drafted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.contract import Contract
from shared.experiments import Posterior, Proposal, Verdict
from shared.formatting import format_effect, format_measure, format_run
from shared.leases import GrantedLease
from shared.runs import RunOutcome, RunReport
from worker.runs.spec import RunProgress
from worker.ui.status import Totals


@dataclass(frozen=True)
class RunSummary:
    """A finished run. `title` says what was tried; `place` is the result's URL, or where it waits to be sent.

    `agent` is the name of the agent that had the idea, empty for a measurement; `posterior` combines all runs of its
    commit, if the coordinator has sent it.
    """

    lease: GrantedLease
    title: str
    contract: Contract
    report: RunReport
    place: str
    posterior: Posterior | None = None
    agent: str = ""

    @property
    def metric(self) -> str:
        """`val_bpb 2.1034`, or the outcome of a run without a metric."""
        if self.report.outcome is RunOutcome.OK and self.report.metric is not None:
            return f"{self.contract.objective.metric} {format_run(self.report.metric)}"
        return self.report.outcome.value.replace("_", " ")

    @property
    def parent(self) -> str:
        """The posterior of the base commit, as text."""
        return describe_posterior(self.lease.base.posterior)

    @property
    def effect(self) -> str:
        """`−0.0488 ± 0.0073 (improved, provisional)`: the effect against the parent; empty if unknown."""
        posterior = self.posterior
        if posterior is None or posterior.effect_mean is None or posterior.effect_sd is None:
            return ""
        return f"{format_effect(posterior.effect_mean, posterior.effect_sd)} ({posterior.conclusion})"

    def add_to(self, totals: Totals) -> Totals:
        """The totals including this run."""
        report, posterior = self.report, self.posterior
        improved = posterior is not None and posterior.verdict is Verdict.IMPROVED and self.lease.kind.makes_experiment
        stopped = report.outcome is RunOutcome.STOPPED_EARLY
        saved_share = 1 - report.hopeless_at if stopped and report.hopeless_at is not None else 0.0
        return Totals(
            runs=totals.runs + 1,
            improved=totals.improved + improved,
            failed=totals.failed + (not stopped and report.outcome is not RunOutcome.OK),
            stopped=totals.stopped + stopped,
            device_seconds=totals.device_seconds + report.seconds.total,
            saved_seconds=totals.saved_seconds
            + report.seconds.to_wall(saved_share * self.contract.budget.training_seconds),
        )


def describe_posterior(posterior: Posterior | None) -> str:
    """`3.3000 ± 0.0052, n = 2`, or `not measured yet`."""
    if posterior is None:
        return "not measured yet"
    return f"{format_measure(posterior.metric_mean, posterior.metric_sd)}, n = {posterior.runs}"


@dataclass(frozen=True)
class WorkerStarted:
    """The worker has started. `totals` count its earlier runs."""

    worker: str
    device: str
    sandbox: str
    agent: str
    coordinator: str
    totals: Totals = field(default_factory=Totals)


@dataclass(frozen=True)
class WorkerStopped:
    """The worker ends; a view restores the terminal."""


@dataclass(frozen=True)
class JobClaimed:
    """The coordinator, or the worker itself while offline, has given a job."""

    lease: GrantedLease


@dataclass(frozen=True)
class ExperimentProposed:
    """An agent has drafted an experiment for a job; `agent` is the name of the one that had the idea."""

    lease: GrantedLease
    proposal: Proposal
    agent: str


@dataclass(frozen=True)
class JobProgressed:
    """A job has reached this phase, step and loss."""

    lease: GrantedLease
    progress: RunProgress


@dataclass(frozen=True)
class JobDropped:
    """A job was given back, or its lease was lost."""

    lease: GrantedLease


@dataclass(frozen=True)
class RunFinished:
    """A run is finished, and its result delivered or kept in the outbox."""

    summary: RunSummary


@dataclass(frozen=True)
class WaitStarted:
    """The device is idle for about this many seconds; `reason` is a sentence for people."""

    reason: str
    seconds: float


@dataclass(frozen=True)
class AgentTrouble:
    """Something is wrong with the agent for as long as nothing else is said; empty: it works again."""

    text: str


@dataclass(frozen=True)
class OutboxChanged:
    """This many results wait to be delivered."""

    waiting: int


@dataclass(frozen=True)
class StopRequested:
    """The volunteer asked the worker to stop: after this run, or `now`."""

    now: bool


@dataclass(frozen=True)
class Notice:
    """A line for people; a warning needs their attention."""

    text: str
    is_warning: bool = False


JobEvent = JobClaimed | ExperimentProposed | JobProgressed | JobDropped | RunFinished
Event = JobEvent | WorkerStarted | WorkerStopped | WaitStarted | AgentTrouble | OutboxChanged | StopRequested | Notice


class EventHandler(Protocol):
    """Handles the events of one worker. `handle` is called from several threads."""

    def handle(self, event: Event) -> None: ...


class EventHandlers:
    """Implements `EventHandler`: passes each event to several handlers, in order."""

    def __init__(self, handlers: Sequence[EventHandler]) -> None:
        self._handlers = handlers

    def handle(self, event: Event) -> None:
        for handler in self._handlers:
            handler.handle(event)
