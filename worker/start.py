"""Assembles a worker from its settings, runs it, and turns errors into one line and an exit status."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from worker.agents.base import Agent, AgentError, AgentMisconfigured
from worker.agents.scripted import Script, ScriptedAgent, load_script
from worker.api.client import ClientError, CoordinatorClient, Unauthorized, Unreachable
from worker.api.retry import Backoff
from worker.commands.options import ExitStatus, WorkerCommandError
from worker.git.projects import Projects
from worker.loop.availability import (
    HotGpu,
    OtherGpuUsers,
    find_model_port,
    list_own_processes,
    parse_schedule,
    pause_on_battery,
    pause_outside,
)
from worker.loop.drafting import commit_author
from worker.loop.heartbeat import HeartbeatDied
from worker.loop.job import WorkerParts
from worker.loop.lock import AlreadyRunning, hold
from worker.loop.loop import Ending, Loop
from worker.loop.offline import OfflineMode
from worker.loop.outbox import Outbox
from worker.loop.prefetch import record_crash
from worker.loop.stop import ControlFiles, PauseReason, Stop, follow_control_files
from worker.machine.bytecode import compile_installed
from worker.machine.gpu import NvidiaDriver
from worker.machine.hardware import HardwareError, Machine, detect_machine, hold_gpu, list_devices
from worker.machine.power import hold_power_limit, restore_power_limit
from worker.machine.probe import try_device
from worker.machine.scratch import clear_leftovers
from worker.multi_gpu import end_with_parent, run_group
from worker.runs.runner import LocalRunner
from worker.runs.spec import RunImpossible
from worker.runs.throughput import SeedThroughputs
from worker.sandbox.base import SandboxUnavailable
from worker.sandbox.choose import choose_sandbox
from worker.settings import RunOptions, SettingsError, WorkerSettings, folder_name, load_settings
from worker.ui.events import EventHandler, EventHandlers, Notice, StopRequested, WorkerStarted, WorkerStopped
from worker.ui.plain import PlainView
from worker.ui.state_reporter import StateReporter
from worker.ui.status import Totals, read_status
from worker.ui.status_file import StatusFile, open_log
from worker.ui.terminal import TerminalView, find_terminal

_STATUSES = {
    Ending.DONE: ExitStatus.OK,
    Ending.DRAINED: ExitStatus.OK,
    Ending.NOTHING_TO_DO: ExitStatus.NOTHING_TO_DO,
    Ending.FAILED: ExitStatus.ERROR,
    Ending.STOPPED: ExitStatus.INTERRUPTED,
}

CRASH_LOG = "crash.log"
UNCONFINED_WARNING = (
    "NO SANDBOX: code that strangers wrote runs with all rights of this user, on this machine's files and network. "
    "Do this only with a project whose commits you trust."
)


def start(flags: dict[str, Any], options: RunOptions) -> int:
    """Run a worker, or one for each device, until it ends; return the exit status. Raises WorkerCommandError."""
    settings = load_settings(flags)
    refuse_unread(settings, flags)
    settings.require_coordinator()
    with errors_in_words():
        devices = _list_devices(settings)
        if len(devices) > 1:
            return run_group(settings, devices, flags, options)
        return _run(settings.model_copy(update={"device": devices[0]}), options)


def refuse_unread(settings: WorkerSettings, flags: Mapping[str, Any]) -> None:
    """Raise SettingsError for a flag that the chosen agent does not read: search would work all night instead."""
    if settings.agent in ("search", "scripted") and (flags.get("model") or flags.get("base_url")):
        raise SettingsError(
            "--model and --base-url are for a language model, which no agent here asks: add --agent openai, or --model "
            "with a coding tool's name"
        )
    if settings.agent in ("search", "scripted", "openai") and flags.get("agent_command"):
        raise SettingsError(f"--agent-command is for a coding tool, which {settings.agent} is not: omit --agent")


@contextmanager
def errors_in_words() -> Iterator[None]:
    """Turns the errors of a worker that cannot start into WorkerCommandErrors."""
    try:
        yield
    except Unauthorized as error:
        problem = f"the coordinator does not accept this worker: {error}"
        raise WorkerCommandError(problem, ExitStatus.AUTHENTICATION) from error
    except Unreachable as error:
        raise WorkerCommandError(f"{error}. Is it running, and is SWARM_COORDINATOR_URL right?") from error
    except (ClientError, HardwareError, HeartbeatDied, RunImpossible, SandboxUnavailable) as error:
        raise WorkerCommandError(str(error)) from error


def choose_one_device(settings: WorkerSettings) -> str:
    """The only device of these settings. Raises WorkerCommandError, HardwareError."""
    devices = _list_devices(settings)
    if len(devices) > 1:
        raise WorkerCommandError(f"one device only, not {', '.join(devices)}", ExitStatus.USAGE)
    return devices[0]


def _list_devices(settings: WorkerSettings) -> list[str]:
    if settings.device is None:
        raise WorkerCommandError("no device is given: --gpu 0 for the first GPU, or --device cpu", ExitStatus.USAGE)
    return list(list_devices(settings.device, visible=settings.cuda_visible_devices))


def _run(settings: WorkerSettings, options: RunOptions) -> int:
    if (settings.agent == "scripted") != (options.script is not None):
        raise WorkerCommandError("--agent scripted and --script FILE come together.", ExitStatus.USAGE)
    script = load_script(options.script) if options.script is not None else None
    console = None if options.plain else find_terminal(no_color=options.no_color)
    view: EventHandler = PlainView(sys.stderr, sys.stdout) if console is None else TerminalView(console)
    with open_worker(settings, view, partial(_make_agent, settings, script)) as worker:
        stop, events = worker.parts.stop, worker.parts.events
        if options.once and stop.pause is not None:
            events.handle(Notice(stop.pause))
            return ExitStatus.NOTHING_TO_DO
        if options.parent is not None:
            end_with_parent(options.parent, stop.request)
        with stop.on_signals(lambda: events.handle(StopRequested(stop.now.is_set()))):
            return _work(worker.make_loop(), options, worker.folder)


@dataclass(frozen=True)
class OpenWorker:
    """A worker's parts, ready to work. `folder` is for this coordinator."""

    settings: WorkerSettings
    parts: WorkerParts
    folder: Path

    def make_loop(self) -> Loop:
        settings = self.settings
        backoff = Backoff(None, settings.shortest_wait_seconds, settings.longest_wait_seconds)
        return Loop(self.parts, settings.project, self.folder / CRASH_LOG, settings.branch, backoff)


@contextmanager
def open_worker(
    settings: WorkerSettings, view: EventHandler, make_agent: Callable[[Callable[[str], None], Stop], Agent]
) -> Iterator[OpenWorker]:
    """Open a worker of these settings, which name one device; `view` shows people what happens.

    Raises WorkerCommandError, ClientError, HardwareError, SandboxUnavailable.
    """
    try:
        token = settings.read_token()
    except SettingsError as error:
        raise WorkerCommandError(str(error), ExitStatus.AUTHENTICATION) from error
    name, stop = settings.worker_name, Stop()
    with ExitStack() as stack:
        folder = _hold_folder(settings, stack)
        clear_leftovers()
        machine, runner = _open_runner(settings, folder, stack)
        pause_reasons = _list_pause_reasons(settings, machine, runner.sandbox_name)
        advice = settings.advise_login()
        client = CoordinatorClient(settings.coordinator_url, token, read_token=settings.read_token, advice=advice)
        stack.callback(client.close)

        earlier = read_status(settings.worker_folder)
        log = stack.enter_context(open_log(settings.worker_folder))
        status, reporter = StatusFile(settings.worker_folder), StateReporter(client, name, stop)
        events = EventHandlers([view, PlainView(log, log), status, reporter])
        agent = make_agent(lambda text: events.handle(Notice(text)), stop)

        control = ControlFiles(settings.worker_folder)
        on_finish = partial(events.handle, StopRequested(now=False))
        stack.enter_context(follow_control_files(control, stop, on_finish, pause_reasons))
        if settings.nice:
            os.nice(settings.nice)

        projects = Projects(client, folder / "projects", stop.draining)
        stack.callback(projects.close)
        parts = WorkerParts(
            client=client, agent=agent, runner=runner, projects=projects, outbox=Outbox(folder / "outbox"),
            events=events, stop=stop, worker=name, author=commit_author(name),
            throughputs=SeedThroughputs(folder / "throughput.json", runner.hardware),
            offline=OfflineMode(folder, name, agent.name, runner.hardware, settings.alone_after_seconds),
            notes=settings.read_notes(),
        )  # fmt: skip
        started = WorkerStarted(
            worker=name,
            device=runner.hardware.hardware_class,
            sandbox=runner.sandbox_name,
            agent=agent.name,
            coordinator=settings.coordinator_url,
            totals=earlier.totals if earlier else Totals(),
        )
        events.handle(started)
        stack.callback(events.handle, WorkerStopped())
        compile_installed(lambda text: events.handle(Notice(text)))
        for name in ("max_watts", "max_celsius"):
            if machine.gpu is None and getattr(settings, name) is not None:
                events.handle(Notice(f"{name!r} is for a GPU: it limits nothing on the processor", is_warning=True))
        if settings.sandbox == "unconfined":
            events.handle(Notice(UNCONFINED_WARNING, is_warning=True))
        _check_agent(agent)
        yield OpenWorker(settings, parts, folder)


def _check_agent(agent: Agent) -> None:
    """Try the agent before the first job. Raises WorkerCommandError where its settings are wrong."""
    try:
        agent.begin()
    except AgentMisconfigured as error:
        reason = str(error).removesuffix(".")
        stop = "" if reason.endswith("?") else "."
        problem = (
            f"the agent does not work: {reason}{stop} `swarm-worker doctor agent`, with the same flags, tries it again"
        )
        raise WorkerCommandError(problem) from error
    except AgentError:  # it may work later; each job shows why it does not
        return


def _hold_folder(settings: WorkerSettings, stack: ExitStack) -> Path:
    """Hold the worker's folder until the stack is left; return its subfolder for this coordinator."""
    url = settings.coordinator_url
    name = f"{folder_name(url.partition('://')[2])}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    folder = settings.worker_folder / name
    try:
        stack.enter_context(hold(settings.worker_folder))
        folder.mkdir(exist_ok=True)
    except AlreadyRunning as error:
        raise WorkerCommandError(f"{error}. Give this one another --name, or another --data-dir.") from error
    except OSError as error:
        problem = f"cannot write to {settings.data_dir}: {error.strerror}. Choose another folder: --data-dir."
        raise WorkerCommandError(problem) from error
    return folder


def _open_runner(settings: WorkerSettings, folder: Path, stack: ExitStack) -> tuple[Machine, LocalRunner]:
    """Detect the machine, hold its GPU, and choose a sandbox. Raises HardwareError, SandboxUnavailable."""
    assert settings.device is not None
    machine = detect_machine(settings.device, settings.cores)
    stack.enter_context(hold_gpu(machine))
    if machine.gpu is not None and settings.max_watts is not None:
        stack.enter_context(hold_power_limit(NvidiaDriver(), machine, settings.max_watts, settings.data_dir))
        machine = detect_machine(settings.device, settings.cores)  # its power cap is a part of its class
    elif machine.gpu is not None:
        restore_power_limit(NvidiaDriver(), machine.gpu, settings.data_dir)
    sandbox = choose_sandbox(settings.sandbox, machine.gpu)
    if machine.gpu is not None:
        try_device(sandbox, machine.device)
    cache, runs = settings.data_dir / "data", folder / "runs"
    return machine, LocalRunner(machine.device, machine.hardware, sandbox, cache, runs, settings.mirrors)


def _list_pause_reasons(settings: WorkerSettings, machine: Machine, sandbox: str) -> list[PauseReason]:
    reasons = [pause_outside(parse_schedule(settings.schedule))] if settings.schedule else []
    if settings.when_idle:
        if machine.gpu is None:
            raise WorkerCommandError("--when-idle needs a GPU: omit it, or give --gpu 0.", ExitStatus.USAGE)
        if sandbox.startswith("container"):
            problem = "--when-idle cannot tell a container's processes from others': use bubblewrap."
            raise WorkerCommandError(problem, ExitStatus.USAGE)
        list_own = partial(list_own_processes, find_model_port(settings.base_url))
        reasons.append(OtherGpuUsers(NvidiaDriver(), machine.gpu, list_own).describe)
    if settings.max_celsius is not None and machine.gpu is not None:
        reasons.append(HotGpu(NvidiaDriver(), machine.gpu, settings.max_celsius).describe)
    return reasons if settings.on_battery else [*reasons, pause_on_battery()]


def _make_agent(settings: WorkerSettings, script: Script | None, notify: Callable[[str], None], stop: Stop) -> Agent:
    if script is not None:
        return ScriptedAgent(script, stop.quiet)
    try:
        from worker.agents.composite import make_agent  # noqa: PLC0415 - optuna takes most of a second to import

        return make_agent(settings, notify, stop)
    except ImportError as error:
        raise WorkerCommandError(f"this agent needs {error.name}: pip install 'research-swarm[worker]'.") from error


def _work(loop: Loop, options: RunOptions, folder: Path) -> int:
    try:
        return _STATUSES[loop.run(options.max_jobs, options.once)]
    except (ClientError, HeartbeatDied, RunImpossible):
        raise
    except OSError as error:
        raise WorkerCommandError(f"the folder {folder} cannot be used: {error.strerror or error}.") from error
    except Exception as error:  # the outermost: people get a line, a file gets the rest
        record_crash(folder / CRASH_LOG, error)
        raise WorkerCommandError(f"an error in the worker's code; please report {folder / CRASH_LOG}") from error
