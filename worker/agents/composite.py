"""Agents made of other agents: a substitute while the model is unreachable, one agent for each kind of job."""

import shlex
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

from shared.experiments import JobKind
from shared.findings import FindingDraft
from shared.runs import RunReport
from worker.agents.base import Agent, AgentUnavailable, Draft, Task
from worker.agents.budget import Allowance, UsageLog
from worker.agents.combine import CombineAgent
from worker.agents.command import CommandAgent, Tool
from worker.agents.recombine import RecombineAgent
from worker.agents.search import SearchAgent
from worker.loop.stop import Stop
from worker.sandbox.tool import Mount
from worker.settings import SettingsError, WorkerSettings


def make_agent(settings: WorkerSettings, notify: Callable[[str], None], stop: Stop) -> Agent:
    """The agent of these settings. Raises SettingsError, OSError, and ImportError of a missing extra."""
    search = SearchAgent()
    first: Agent = search
    if settings.agent in ("openai", "command"):
        make = _make_openai_agent if settings.agent == "openai" else _make_command_agent
        first = FallbackAgent(make(settings, notify, stop), search, notify)
    recombine = RecombineAgent()
    others: dict[JobKind, Agent] = {JobKind.ADOPT: recombine, JobKind.ABLATE: recombine, JobKind.TUNE: search}
    return AgentByKind(first, others | {JobKind.COMBINE: CombineAgent()})


def _make_command_agent(settings: WorkerSettings, notify: Callable[[str], None], stop: Stop) -> Agent:
    try:
        words = shlex.split(settings.agent_command or "")
    except ValueError as error:
        raise SettingsError(f"the setting 'agent_command' is wrong: {error}") from error
    if not words:
        raise SettingsError("the command agent needs a command: --agent-command 'tool -p {prompt_file}'")
    mounts = []
    for text in settings.agent_paths:
        path = Path(text.removesuffix(":rw")).expanduser().absolute()
        if not path.exists():
            raise SettingsError(f"the setting 'agent_paths' is wrong: {path} does not exist")
        mounts.append(Mount(path, writable=text.endswith(":rw")))
    environment, secrets = settings.read_agent_environment(), frozenset(settings.read_agent_secrets())
    tool = Tool(words, Path.home(), environment, tuple(mounts), settings.agent_seconds, secrets)
    return CommandAgent(tool, notify, stop.quiet)


def _make_openai_agent(settings: WorkerSettings, notify: Callable[[str], None], stop: Stop) -> Agent:
    if settings.model is None:
        raise SettingsError("the openai agent needs a model: --model NAME (and --base-url URL for your own server)")
    limits = ("cost_per_experiment", "cost_per_day")
    if any(getattr(settings, name) for name in limits) and None in (settings.input_price, settings.output_price):
        raise SettingsError("a limit on cost needs input_price and output_price, per million tokens")
    from worker.agents.chat import Chat  # noqa: PLC0415 - the SDK takes a second to import, and others do not need it
    from worker.agents.openai import OpenAIAgent  # noqa: PLC0415 - likewise

    chat = Chat(settings.base_url, settings.model, settings.read_api_key(), settings.request_seconds)
    allowance = Allowance.model_validate(settings, from_attributes=True)
    return OpenAIAgent(chat, UsageLog(settings.data_dir / "agent", settings.model, allowance), notify, stop)


FALLBACK_SECONDS = 120.0
"""After a failure of the first agent, the worker asks this long only for jobs that the substitute can do."""


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

    @abstractmethod
    def _author(self, task: Task, draft: Draft) -> Agent:
        """The agent that made a draft."""

    def repair(self, task: Task, draft: Draft, report: RunReport) -> Draft | None:
        return self._author(task, draft).repair(task, draft, report)

    def write_finding(self, task: Task, draft: Draft, report: RunReport) -> FindingDraft:
        return self._author(task, draft).write_finding(task, draft, report)


class _Substituted(Draft):
    """A draft of the substitute's."""


class FallbackAgent(_Delegate):
    """`first`, or `second` while the first is unavailable. `notify` gets a line for people."""

    def __init__(self, first: Agent, second: Agent, notify: Callable[[str], None]) -> None:
        super().__init__(first, second)
        self._first, self._second, self._notify = first, second, notify
        self._away_until = 0.0

    @property
    def kinds(self) -> frozenset[JobKind]:
        return self._second.kinds if time.monotonic() < self._away_until else super().kinds

    def propose(self, task: Task) -> Draft:
        """See `Agent`; raises AgentUnavailable if neither is available."""
        try:
            draft = self._first.propose(task)
            self._away_until = 0.0
            return draft
        except AgentUnavailable as error:
            self._away_until = time.monotonic() + FALLBACK_SECONDS
            self._notify(f"{error}; the {self._second.name} agent proposes instead")
            draft = self._second.propose(task)
            return _Substituted(draft.proposal, draft.files, draft.made_by or self._second.name, draft.is_code)

    def _author(self, task: Task, draft: Draft) -> Agent:  # noqa: ARG002 - the draft suffices
        return self._second if isinstance(draft, _Substituted) else self._first


class AgentByKind(_Delegate):
    """`others` do the kinds of job they are listed for, `first` does all others."""

    def __init__(self, first: Agent, others: Mapping[JobKind, Agent]) -> None:
        super().__init__(first, *others.values())
        self._first, self._others = first, others

    @property
    def kinds(self) -> frozenset[JobKind]:
        return self._first.kinds.union(self._others)

    def propose(self, task: Task) -> Draft:
        return self._others.get(task.kind, self._first).propose(task)

    def _author(self, task: Task, draft: Draft) -> Agent:  # noqa: ARG002 - the kind suffices
        return self._others.get(task.kind, self._first)
