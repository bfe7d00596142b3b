"""An agent with a substitute: while its model is away or its budget is spent, another agent drafts, and says so.

For a while after that the worker asks for such jobs only as the substitute can do.
"""

import time
from collections.abc import Callable

from shared.experiments import JobKind
from shared.findings import FindingDraft
from shared.runs import RunReport
from worker.agents.base import Agent, AgentUnavailable, Draft, Task

AWAY_SECONDS = 120.0


class _Substituted(Draft):
    """A draft of the substitute's."""


class FallbackAgent:
    """Implements `Agent`: `first`, and `second` where that one is unavailable. `tell` gets a line for people."""

    def __init__(self, first: Agent, second: Agent, tell: Callable[[str], None]) -> None:
        self._first, self._second, self._tell = first, second, tell
        self._away_until = 0.0

    @property
    def name(self) -> str:
        return self._first.name

    @property
    def wants_trials(self) -> bool:
        return self._first.wants_trials or self._second.wants_trials

    @property
    def kinds(self) -> frozenset[JobKind]:
        if time.monotonic() < self._away_until:
            return self._second.kinds
        return self._first.kinds | self._second.kinds

    def propose(self, task: Task) -> Draft:
        """See `Agent`; raises AgentUnavailable for neither."""
        try:
            draft = self._first.propose(task)
            self._away_until = 0.0
            return draft
        except AgentUnavailable as error:
            self._away_until = time.monotonic() + AWAY_SECONDS
            self._tell(f"{error}; the {self._second.name} agent proposes instead")
            draft = self._second.propose(task)
            return _Substituted(draft.proposal, draft.files, draft.made_by or self._second.name, draft.is_code)

    def repair(self, task: Task, draft: Draft, report: RunReport) -> Draft | None:
        """By whoever drafted it."""
        return self._author(draft).repair(task, draft, report)

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        """By whoever drafted it."""
        return self._author(draft).write_finding(task, draft, report)

    def _author(self, draft: Draft) -> Agent:
        return self._second if isinstance(draft, _Substituted) else self._first
