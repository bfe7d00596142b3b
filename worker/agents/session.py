"""The agent of `swarm-worker mcp`: a coding agent's session, which fetches what the worker asks for and answers it.

The worker's thread waits in `propose`, `repair` and `write_finding`; the session's tools see the request and hand over
its answer. Meanwhile the coordinator is shown that the draft is under way.
"""

import time
from dataclasses import dataclass
from enum import StrEnum
from threading import Condition, Event

from shared.experiments import JobKind
from shared.findings import FindingDraft
from shared.runs import RunReport
from worker.agents.base import Agent, AgentError, AgentInterrupted, Draft, Task

PATIENCE_SECONDS = 1800.0
"""Longest wait for a proposal or a repair after the session's last call."""

FINDING_SECONDS = 600.0
ACTIVITY_SECONDS = 45.0
"""Interval in which the coordinator is shown that the session works."""

POLL_INTERVAL_SECONDS = 0.25


class Wanted(StrEnum):
    """Kinds of answers that the worker waits for."""

    PROPOSAL = "proposal"
    REPAIR = "repair"
    FINDING = "finding"


@dataclass(frozen=True)
class SessionRequest:
    """A wanted answer: the task, and the draft and its run's report where there is one."""

    wanted: Wanted
    task: Task
    draft: Draft | None = None
    report: RunReport | None = None


class SessionAgent(Agent):
    """Waits for a session's answers; for the worker's thread and others. `stop` ends each wait."""

    kinds = frozenset({JobKind.IMPROVE, JobKind.DRAFT})

    def __init__(self, stop: Event) -> None:
        self._stop = stop
        self._changed = Condition()
        self._request: SessionRequest | None = None
        self._answer: Draft | FindingDraft | None = None
        self._touched_at = 0.0
        self._name = "mcp"

    @property
    def name(self) -> str:
        return self._name

    def set_client(self, name: str) -> None:
        """Take the name of the program that the session runs in."""
        self._name = f"mcp {' '.join(name.split())}"[:80].strip()

    @property
    def request(self) -> SessionRequest | None:
        """The request that the worker waits for now."""
        return self._request

    def touch(self) -> None:
        """Record that the session did something."""
        self._touched_at = time.monotonic()

    def answer(self, request: SessionRequest, answer: Draft | FindingDraft) -> None:
        """Answer a request. Raises AgentError if the worker does not wait for it any more."""
        with self._changed:
            if self._request is not request:
                raise AgentError("the worker waits for this no longer: the job was lost or given back")
            self._request, self._answer = None, answer
            self._changed.notify_all()

    def propose(self, task: Task) -> Draft:
        answer = self._ask(SessionRequest(Wanted.PROPOSAL, task), PATIENCE_SECONDS)
        assert isinstance(answer, Draft)
        return answer

    def repair(self, task: Task, draft: Draft, report: RunReport) -> Draft | None:
        answer = self._ask(SessionRequest(Wanted.REPAIR, task, draft, report), FINDING_SECONDS)
        assert isinstance(answer, Draft)
        return answer if answer.files != draft.files else None

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        answer = self._ask(SessionRequest(Wanted.FINDING, task, draft, report), FINDING_SECONDS)
        assert isinstance(answer, FindingDraft)
        return answer

    def _ask(self, request: SessionRequest, seconds: float) -> Draft | FindingDraft:
        """The session's answer. Raises AgentInterrupted, and AgentError if none comes in time."""
        self.touch()
        steps, shown_at = len(request.task.refused) * 1000, time.monotonic()
        with self._changed:
            self._request, self._answer = request, None
            try:
                while self._answer is None:
                    if self._stop.is_set():
                        raise AgentInterrupted("the session or the worker ends")
                    if time.monotonic() > self._touched_at + seconds:
                        raise AgentError(f"the session gave no {request.wanted} for {seconds / 60:.0f} min")
                    if request.wanted is Wanted.PROPOSAL and time.monotonic() > shown_at + ACTIVITY_SECONDS:
                        steps, shown_at = steps + 1, time.monotonic()
                        request.task.show_activity(steps)
                    self._changed.wait(POLL_INTERVAL_SECONDS)
                return self._answer
            finally:
                self._request = None
