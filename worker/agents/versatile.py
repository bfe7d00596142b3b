"""An agent for every kind of job: what needs no ideas is done by rule, and the rest by the volunteer's agent."""

from collections.abc import Mapping

from shared.experiments import JobKind
from shared.findings import FindingDraft
from shared.runs import RunReport
from worker.agents.base import Agent, Draft, Task


class VersatileAgent:
    """Implements `Agent`: `others` do the kinds of job that they are named for, and `first` all else."""

    def __init__(self, first: Agent, others: Mapping[JobKind, Agent]) -> None:
        self._first, self._others = first, others

    @property
    def name(self) -> str:
        return self._first.name

    @property
    def wants_trials(self) -> bool:
        return self._first.wants_trials

    @property
    def kinds(self) -> frozenset[JobKind]:
        """All that any of them can do."""
        return self._first.kinds.union(self._others)

    def propose(self, task: Task) -> Draft:
        """By the agent for the task's kind; raises what that raises."""
        return self._choose(task).propose(task)

    def repair(self, task: Task, draft: Draft, report: RunReport) -> Draft | None:
        """By whoever drafted it."""
        return self._choose(task).repair(task, draft, report)

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        """By whoever drafted it."""
        return self._choose(task).write_finding(task, draft, report)

    def _choose(self, task: Task) -> Agent:
        return self._others.get(task.kind, self._first)
