"""Agents made of other agents: a substitute while the model is unreachable, one agent for each kind of job."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property

from shared.experiments import JobKind
from shared.findings import FindingDraft
from shared.runs import RunReport
from worker.agents.base import (
    Agent,
    AgentError,
    AgentFinished,
    AgentInterrupted,
    AgentMisconfigured,
    AgentUnavailable,
    AssignmentImpossible,
    Draft,
    Task,
)
from worker.agents.budget import Allowance, UsageLog
from worker.agents.command import CommandAgent
from worker.agents.recombine import CombineAgent, RecombineAgent
from worker.agents.search import SearchAgent
from worker.agents.tools import make_tool
from worker.api.retry import Backoff
from worker.loop.stop import Stop
from worker.settings import SettingsError, WorkerSettings


def make_agent(settings: WorkerSettings, notify: Callable[[str], None], stop: Stop) -> Agent:
    """The agent of these settings. Raises SettingsError, OSError, and ImportError of a missing extra."""
    search = SearchAgent()
    first: Agent = search
    if settings.agent == "openai":
        first = FallbackAgent(_make_openai_agent(settings, notify, stop), search, notify)
    elif settings.agent != "search":
        first = FallbackAgent(CommandAgent(make_tool(settings, notify), notify, stop.quiet), search, notify)
    recombine = RecombineAgent()
    others: dict[JobKind, Agent] = {JobKind.ADOPT: recombine, JobKind.ABLATE: recombine, JobKind.TUNE: search}
    return AgentByKind(first, others | {JobKind.COMBINE: CombineAgent()})


def _make_openai_agent(settings: WorkerSettings, notify: Callable[[str], None], stop: Stop) -> Agent:
    if settings.model is None:
        raise SettingsError("the openai agent needs a model: --model NAME (and --base-url URL for your own server)")
    limits = ("cost_per_experiment", "cost_per_day")
    if any(getattr(settings, name) for name in limits) and None in (settings.input_price, settings.output_price):
        raise SettingsError("a limit on cost needs input_price and output_price, per million tokens")
    from worker.agents.chat import Chat  # noqa: PLC0415 - the SDK takes a second to import, and others do not need it
    from worker.agents.openai import OpenAIAgent  # noqa: PLC0415 - likewise

    limits_of_answer = settings.request_seconds, settings.max_output_tokens
    chat = Chat(settings.base_url, settings.model, settings.read_api_key(), *limits_of_answer)
    allowance = Allowance.model_validate(settings, from_attributes=True)
    log = UsageLog(settings.data_dir / "agent", settings.model, allowance, settings.base_url)
    return OpenAIAgent(chat, log, notify, stop)


TROUBLE_AFTER = 3
"""Failures in a row after which the first agent rests."""

MAX_FIRST_DRAFTS = 3
"""Drafts of one job by the first agent that the coordinator may refuse before the substitute drafts."""

LEFT_OUT_SECONDS = 600.0
"""Seconds without jobs of a kind after one that could not be done as it was assigned."""


class _Delegate(Agent):
    """An agent whose jobs are done by `agents`; the first gives its name."""

    def __init__(self, *agents: Agent) -> None:
        self._agents = agents

    @property
    def name(self) -> str:
        return self._agents[0].name

    @property
    def kinds(self) -> frozenset[JobKind]:
        return frozenset().union(*(agent.kinds for agent in self._agents))

    @property
    def wants_trials(self) -> bool:
        return any(agent.wants_trials for agent in self._agents)

    @property
    def trouble(self) -> str:
        return self._agents[0].trouble

    def check(self) -> str:
        return self._agents[0].check()

    def begin(self) -> None:
        self._agents[0].begin()

    def _author(self, draft: Draft) -> Agent:
        """The agent that made a draft."""
        return next((agent for agent in self._agents if agent.name == draft.agent), self._agents[0])

    def repair(self, task: Task, draft: Draft, report: RunReport) -> Draft | None:
        return self._author(draft).repair(task, draft, report)

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        return self._author(draft).write_finding(task, draft, report)


class FallbackAgent(_Delegate):
    """`first`, or `second` for each job for which the first gives nothing, whatever the reason.

    After TROUBLE_AFTER failures in a row, or one that will last, the first agent rests for a while that grows, and
    `trouble` says why until it works again; the device never rests for it. `notify` gets a line for people.
    """

    def __init__(
        self, first: Agent, second: Agent, notify: Callable[[str], None], backoff: Backoff | None = None
    ) -> None:
        super().__init__(first, second)
        self._first, self._second, self._notify = first, second, notify
        self._backoff = backoff or Backoff()
        self._failures, self._rests_until, self._trouble = 0, 0.0, ""

    @property
    def kinds(self) -> frozenset[JobKind]:
        return self._second.kinds if self._rests else super().kinds

    @property
    def trouble(self) -> str:
        return self._trouble

    @property
    def substitute(self) -> Agent:
        return self._second

    @property
    def _rests(self) -> bool:
        return time.monotonic() < self._rests_until

    def begin(self) -> None:
        """See `Agent`: while the first agent cannot work, the second does, from the first job on; with wrong settings
        there is no first job."""
        try:
            with _errors_of(self._first):
                self._first.begin()
        except AgentMisconfigured:
            raise
        except AgentUnavailable as error:
            self._record_failure(error)
            raise

    def propose(self, task: Task) -> Draft:
        """See `Agent`; raises what the second agent raises. A job that was left to it stays with it."""
        if not self._rests and not any(self._author(draft) is self._second for draft in task.refused):
            try:
                if len(task.refused) >= MAX_FIRST_DRAFTS:
                    raise AgentError(f"{self.name} proposed only what is known already, {MAX_FIRST_DRAFTS} times")
                with _errors_of(self._first):
                    draft = self._first.propose(task)
            except AgentInterrupted:
                raise
            except AgentError as error:
                self._record_failure(error)
            else:
                self._failures, self._trouble = 0, ""
                self._backoff.reset()
                return draft
        return self._second.propose(task)

    def repair(self, task: Task, draft: Draft, report: RunReport) -> Draft | None:
        with _errors_of(self._author(draft)):
            return super().repair(task, draft, report)

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        with _errors_of(self._author(draft)):
            return super().write_finding(task, draft, report)

    def _record_failure(self, error: AgentError) -> None:
        self._failures += 1
        rest = self._backoff.next_wait(error.retry_after_seconds if isinstance(error, AgentUnavailable) else None)
        self._notify(f"{error}; the {self._second.name} agent proposes instead")
        if isinstance(error, AgentUnavailable):
            self._trouble = f"{error}. Meanwhile the {self._second.name} agent proposes."
            self._rests_until = time.monotonic() + rest
        elif self._failures >= TROUBLE_AFTER:
            self._trouble = (
                f"the model gives nothing usable: {error}. {self._failures} jobs in a row; "
                f"the {self._second.name} agent proposes instead."
            )
            self._rests_until = time.monotonic() + rest


@contextmanager
def _errors_of(agent: Agent) -> Iterator[None]:
    """Turns an unexpected error into an AgentError: what a strange answer breaks costs no job."""
    try:
        yield
    except (AgentError, AgentFinished):
        raise
    except Exception as error:
        raise AgentError(f"an error in the code of the agent {agent.name}: {type(error).__name__}: {error}") from error


class AgentByKind(_Delegate):
    """`others` do the kinds of job they are listed for, `first` does all others.

    A kind of job that could not be done as assigned is not asked for again for LEFT_OUT_SECONDS.
    """

    def __init__(self, first: Agent, others: Mapping[JobKind, Agent]) -> None:
        super().__init__(first, *others.values())
        self._first, self._others = first, others
        self._left_out_until: dict[JobKind, float] = {}

    @property
    def kinds(self) -> frozenset[JobKind]:
        left_out = {kind for kind, until in self._left_out_until.items() if time.monotonic() < until}
        return self._first.kinds.union(self._others) - left_out

    @cached_property
    def substitute(self) -> Agent | None:
        first = self._first.substitute
        return AgentByKind(first, self._others) if first is not None else None

    def propose(self, task: Task) -> Draft:
        try:
            return self._others.get(task.kind, self._first).propose(task)
        except AssignmentImpossible:
            self._left_out_until[task.kind] = time.monotonic() + LEFT_OUT_SECONDS
            raise

    def _author(self, draft: Draft) -> Agent:
        """See `_Delegate`; what `first` and its substitute drafted goes to `first`, which knows its own."""
        return next((agent for agent in self._others.values() if agent.name == draft.agent), self._first)
