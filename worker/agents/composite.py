"""Which agent a worker has. Agents that need a model have `search` as their substitute, which needs none."""

import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from shared.experiments import JobKind
from shared.findings import FindingDraft
from shared.runs import RunReport
from worker.agents.base import Agent, AgentUnavailable, Draft, Task
from worker.agents.budget import Allowance, UsageLog
from worker.agents.command import CommandAgent, Tool
from worker.agents.recombine import RecombineAgent
from worker.agents.search import SearchAgent
from worker.loop.stop import Stop
from worker.sandbox.tool import Mount
from worker.settings import Settings, SettingsError


def make_agent(settings: Settings, tell: Callable[[str], None], stop: Stop) -> Agent:
    """The agent of these settings but `scripted`, for every kind of job.

    Raises SettingsError, OSError, and ImportError of a missing part.
    """
    search = SearchAgent()
    first: Agent = search
    if settings.agent == "openai":
        first = FallbackAgent(_make_openai_agent(settings, tell, stop), search, tell)
    if settings.agent == "command":
        first = FallbackAgent(_make_command_agent(settings, tell, stop), search, tell)
    assembly = RecombineAgent()
    return AgentByKind(first, {JobKind.ADOPT: assembly, JobKind.ABLATE: assembly, JobKind.TUNE: search})


def _make_command_agent(settings: Settings, tell: Callable[[str], None], stop: Stop) -> Agent:
    try:
        words = shlex.split(settings.agent_command or "")
    except ValueError as error:
        raise SettingsError(f"the setting 'agent_command' is wrong: {error}") from error
    if not words:
        raise SettingsError("which command? Give --agent-command 'tool -p {prompt_file}'")
    mounts = []
    for text in settings.agent_paths:
        path = Path(text.removesuffix(":rw")).expanduser().absolute()
        if not path.exists():
            raise SettingsError(f"the setting 'agent_paths' is wrong: there is no {path}")
        mounts.append(Mount(path, writable=text.endswith(":rw")))
    tool = Tool(
        command=settings.agent_command or "",
        home=Path.home(),
        environment=settings.read_agent_environment(),
        mounts=tuple(mounts),
        seconds=settings.agent_seconds,
        secrets=frozenset(settings.read_agent_secrets()),
    )
    return CommandAgent(tool, tell, stop.quiet)


def _make_openai_agent(settings: Settings, tell: Callable[[str], None], stop: Stop) -> Agent:
    if settings.model is None:
        raise SettingsError("which model? Give --model NAME (and --base-url URL for a server of your own)")
    limits = ("cost_per_experiment", "cost_per_day")
    if any(getattr(settings, name) for name in limits) and None in (settings.input_price, settings.output_price):
        raise SettingsError("a limit on cost needs input_price and output_price, per million tokens")
    from worker.agents.chat import Chat  # noqa: PLC0415 - the SDK takes a second to import, and others do not need it
    from worker.agents.openai import OpenAIAgent  # noqa: PLC0415 - likewise

    chat = Chat(settings.base_url, settings.model, settings.read_api_key(), settings.request_seconds)
    allowance = Allowance(
        tokens_per_experiment=settings.tokens_per_experiment,
        tokens_per_day=settings.tokens_per_day,
        cost_per_experiment=settings.cost_per_experiment,
        cost_per_day=settings.cost_per_day,
        input_price=settings.input_price,
        output_price=settings.output_price,
    )
    return OpenAIAgent(chat, UsageLog(settings.data_dir / "agent", settings.model, allowance), tell, stop)


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


class AgentByKind:
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
