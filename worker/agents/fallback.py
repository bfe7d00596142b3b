"""An agent with a substitute: while its model is away or its budget is spent, another agent drafts, and says so."""

from collections.abc import Callable

from shared.findings import FindingDraft
from shared.runs import RunReport
from worker.agents.base import Agent, AgentUnavailable, Draft, Task


class _Substituted(Draft):
    """A draft of the substitute's."""


class FallbackAgent:
    """Implements `Agent`: `first`, and `second` where that one is unavailable. `tell` gets a line for people."""

    def __init__(self, first: Agent, second: Agent, tell: Callable[[str], None]) -> None:
        self._first, self._second, self._tell = first, second, tell

    @property
    def name(self) -> str:
        return self._first.name

    @property
    def wants_trials(self) -> bool:
        return self._first.wants_trials or self._second.wants_trials

    def propose(self, task: Task) -> Draft:
        """See `Agent`; raises AgentUnavailable for neither."""
        try:
            return self._first.propose(task)
        except AgentUnavailable as error:
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
