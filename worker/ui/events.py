"""Events of a worker, which views, logs and reporters handle.

A job begins with `JobClaimed` and ends with `RunFinished` or `JobDropped`; one is measured while the next is drafted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.experiments import Proposal
from shared.leases import GrantedLease
from worker.runs.spec import RunProgress
from worker.ui.run_summary import RunSummary
from worker.ui.status import Totals


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
