"""Which agent a worker has. Agents that need a model have `search` as their substitute, which needs none."""

import shlex
from collections.abc import Callable
from pathlib import Path

from shared.experiments import JobKind
from worker.agents.base import Agent
from worker.agents.budget import Allowance, Ledger
from worker.agents.command import CommandAgent, Tool
from worker.agents.fallback import FallbackAgent
from worker.agents.recombine import AssemblyAgent
from worker.agents.search import SearchAgent
from worker.agents.versatile import VersatileAgent
from worker.loop.stop import Stop
from worker.sandbox.tool import Grant
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
    assembly = AssemblyAgent()
    return VersatileAgent(first, {JobKind.ADOPT: assembly, JobKind.ABLATE: assembly, JobKind.TUNE: search})


def _make_command_agent(settings: Settings, tell: Callable[[str], None], stop: Stop) -> Agent:
    try:
        words = shlex.split(settings.agent_command or "")
    except ValueError as error:
        raise SettingsError(f"the setting 'agent_command' is wrong: {error}") from error
    if not words:
        raise SettingsError("which command? Give --agent-command 'tool -p {prompt_file}'")
    grants = []
    for text in settings.agent_paths:
        path = Path(text.removesuffix(":rw")).expanduser().absolute()
        if not path.exists():
            raise SettingsError(f"the setting 'agent_paths' is wrong: there is no {path}")
        grants.append(Grant(path, writable=text.endswith(":rw")))
    tool = Tool(
        command=settings.agent_command or "",
        home=Path.home(),
        environment=settings.read_agent_environment(),
        grants=tuple(grants),
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
    return OpenAIAgent(chat, Ledger(settings.data_dir / "agent", settings.model, allowance), tell, stop)
