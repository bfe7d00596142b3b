"""Puts a worker together from its settings, runs it, and turns what a person can mend into one line and a status."""

import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from worker.agents.base import Agent
from worker.agents.scripted import Script, ScriptedAgent, ScriptError, load_script
from worker.api.client import ClientError, CoordinatorClient, Unauthorized, Unreachable
from worker.api.retry import Backoff
from worker.git.projects import Projects
from worker.loop.availability import OtherGpuUsers, parse_schedule, pause_outside
from worker.loop.heartbeat import HeartbeatDied
from worker.loop.job import Workplace, commit_author
from worker.loop.lock import AlreadyRunning, hold
from worker.loop.loop import Ending, Loop
from worker.loop.offline import OfflineMode
from worker.loop.outbox import Outbox
from worker.loop.prefetch import record_crash
from worker.loop.stop import ControlFiles, PauseReason, Stop, follow_control_files
from worker.machine.gpu import NvidiaDriver
from worker.machine.hardware import HardwareError, Machine, detect_machine, list_devices, try_torch
from worker.multi_gpu import end_with_parent, run_group
from worker.runs.runner import LocalRunner
from worker.runs.spec import RunImpossible
from worker.sandbox import SandboxUnavailable, choose_sandbox
from worker.settings import RunOptions, Settings, SettingsError, folder_name, load_settings
from worker.ui.events import EventHandler, EventHandlers, Notice, StopRequested, WorkerStarted, WorkerStopped
from worker.ui.plain import PlainView
from worker.ui.state_reporter import StateReporter
from worker.ui.status import Totals, read_status
from worker.ui.status_file import StatusFile, open_log
from worker.ui.terminal import TerminalView, find_terminal

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_AUTHENTICATION = 4
EXIT_NOTHING_TO_DO = 75
EXIT_INTERRUPTED = 130

_STATUS = {
    Ending.DONE: EXIT_OK,
    Ending.DRAINED: EXIT_OK,
    Ending.NOTHING_TO_DO: EXIT_NOTHING_TO_DO,
    Ending.FAILED: EXIT_ERROR,
    Ending.STOPPED: EXIT_INTERRUPTED,
}

CRASH_LOG = "crash.log"
UNCONFINED_WARNING = (
    "NO SANDBOX: code that strangers wrote runs with all rights of this user, on this machine's files and network. "
    "Do this only with a project whose commits you trust."
)


class StartError(Exception):
    """The worker cannot start; the message says why and what to do. `status` is the process's exit status."""

    def __init__(self, message: str, status: int = EXIT_ERROR) -> None:
        super().__init__(message)
        self.status = status


def start(flags: dict[str, Any], options: RunOptions, tell: Callable[[str], None]) -> int:
    """Run a worker until it ends; return the exit status. `tell` gets the one line that says what went wrong."""
    try:
        settings = _settings(flags)
        devices = _list_devices(settings)
        if len(devices) > 1:
            return run_group(settings, devices, flags, options, tell)
        return _run(settings.model_copy(update={"device": devices[0]}), options)
    except StartError as error:
        status, line = error.status, str(error)
    except Unauthorized as error:
        status = EXIT_AUTHENTICATION
        line = f"the coordinator does not accept this worker: {str(error).rstrip('.')}. Is SWARM_TOKEN_FILE right?"
    except Unreachable as error:
        status, line = EXIT_ERROR, f"{error}. Is it running, and is SWARM_COORDINATOR_URL right?"
    except (ClientError, HeartbeatDied, RunImpossible) as error:
        status, line = EXIT_ERROR, str(error)
    tell(line)
    return status


def _settings(flags: dict[str, Any]) -> Settings:
    try:
        settings = load_settings(flags)
    except SettingsError as error:
        raise StartError(str(error), EXIT_USAGE) from error
    if settings.device is None:
        raise StartError("which device? Give --gpu 0 for the first GPU, or --device cpu.", EXIT_USAGE)
    return settings


def _list_devices(settings: Settings) -> list[str]:
    assert settings.device is not None
    try:
        return list_devices(settings.device)
    except HardwareError as error:
        raise StartError(str(error)) from error


def _run(settings: Settings, options: RunOptions) -> int:
    script = _load_script(settings, options)
    try:
        token = settings.read_token()
    except SettingsError as error:
        raise StartError(str(error), EXIT_AUTHENTICATION) from error
    with ExitStack() as stack:
        folder = _hold_folder(settings, stack)
        machine, runner = _open_runner(settings, folder)
        client = CoordinatorClient(settings.coordinator_url, token, read_token=settings.read_token)
        stack.callback(client.close)
        stop = Stop()
        if options.parent is not None:
            end_with_parent(options.parent, stop.request)
        before = read_status(settings.worker_folder)
        reporter = StateReporter(client, settings.worker_name, stop)
        events = _make_event_handlers(options, settings.worker_folder, reporter, stack)
        agent = _make_agent(settings, script, lambda text: events.handle(Notice(text)), stop)
        stack.enter_context(stop.on_signals(lambda: events.handle(StopRequested(stop.now.is_set()))))
        reasons = _reasons_to_pause(settings, machine, runner.sandbox_name)
        if settings.nice:
            os.nice(settings.nice)
        finish = StopRequested(now=False)
        stack.enter_context(
            follow_control_files(ControlFiles(settings.worker_folder), stop, lambda: events.handle(finish), reasons)
        )
        projects = Projects(client, folder / "projects", stop.draining)
        stack.callback(projects.close)
        outbox = Outbox(folder / "outbox")
        name, author = settings.worker_name, commit_author(settings.worker_name)
        offline = OfflineMode(folder, name, agent.name, runner.hardware, settings.alone_after_seconds)
        place = Workplace(client, agent, runner, projects, outbox, events, stop, author, offline=offline)
        backoff = Backoff(None, settings.shortest_wait_seconds, settings.longest_wait_seconds)
        events.handle(_describe(settings, runner, agent, before.totals if before else Totals()))
        stack.callback(lambda: events.handle(WorkerStopped()))
        if settings.sandbox == "unconfined":
            events.handle(Notice(UNCONFINED_WARNING, is_warning=True))
        loop = Loop(place, name, settings.project, folder / CRASH_LOG, settings.branch, backoff)
        return _work(loop, options, folder)


def _work(loop: Loop, options: RunOptions, folder: Path) -> int:
    try:
        return _STATUS[loop.run(options.max_jobs, options.once)]
    except (ClientError, HeartbeatDied, RunImpossible):
        raise
    except OSError as error:
        raise StartError(f"the folder {folder} cannot be used: {error.strerror or error}.") from error
    except Exception as error:  # the outermost: people get a line, a file gets the rest
        record_crash(folder / CRASH_LOG, error)
        raise StartError(f"a mistake in the worker; please report what is in {folder / CRASH_LOG}") from error


def _hold_folder(settings: Settings, stack: ExitStack) -> Path:
    """The folder of this worker and this coordinator, held until the stack is left."""
    folder = settings.worker_folder / _coordinator_folder(settings.coordinator_url)
    try:
        stack.enter_context(hold(settings.worker_folder))
        folder.mkdir(exist_ok=True)
    except AlreadyRunning as error:
        raise StartError(f"{error}. Give this one another --name, or another --data-dir.") from error
    except OSError as error:
        raise StartError(
            f"cannot write to {settings.data_dir}: {error.strerror}. Choose another folder: --data-dir."
        ) from error
    return folder


def _load_script(settings: Settings, options: RunOptions) -> Script | None:
    """The script that is to be replayed, if one is: a mistake in it is told before anything else happens."""
    if (settings.agent == "scripted") != (options.script is not None):
        raise StartError("--agent scripted and --script FILE come together.", EXIT_USAGE)
    try:
        return load_script(options.script) if options.script is not None else None
    except ScriptError as error:
        raise StartError(str(error), EXIT_USAGE) from error


def _make_agent(settings: Settings, script: Script | None, tell: Callable[[str], None], stop: Stop) -> Agent:
    if script is not None:
        return ScriptedAgent(script, stop.quiet)
    try:
        from worker.agents.composite import make_agent  # noqa: PLC0415 - optuna takes most of a second to import

        return make_agent(settings, tell, stop)
    except ImportError as error:
        raise StartError(f"this agent needs {error.name}: pip install 'research-swarm[worker]'.") from error
    except SettingsError as error:
        raise StartError(str(error), EXIT_USAGE) from error


def _reasons_to_pause(settings: Settings, machine: Machine, sandbox: str) -> list[PauseReason]:
    """Why this worker pauses by itself, as its settings have it."""
    reasons = [pause_outside(parse_schedule(settings.schedule))] if settings.schedule else []
    if settings.when_idle:
        if machine.gpu is None:
            raise StartError("--when-idle looks at a GPU, and this worker has none: leave it out, or give --gpu 0.", 2)
        if sandbox.startswith("container"):
            raise StartError("--when-idle cannot tell a container's processes from others': use bubblewrap.", 2)
        reasons.append(OtherGpuUsers(NvidiaDriver(), machine.gpu).describe)
    return reasons


def _open_runner(settings: Settings, folder: Path) -> tuple[Machine, LocalRunner]:
    assert settings.device is not None
    try:
        machine = detect_machine(settings.device, settings.cores)
        sandbox = choose_sandbox(settings.sandbox, machine.gpu)
        if machine.gpu is not None:
            try_torch(sandbox, machine.device)
    except (HardwareError, SandboxUnavailable) as error:
        raise StartError(str(error)) from error
    runner = LocalRunner(
        device=machine.device,
        hardware=machine.hardware,
        sandbox=sandbox,
        cache=settings.data_dir / "data",
        runs=folder / "runs",
        mirrors=settings.mirrors,
    )
    return machine, runner


def _make_event_handlers(
    options: RunOptions, worker_folder: Path, reporter: StateReporter, stack: ExitStack
) -> EventHandler:
    """The view for people, the log for `logs`, the status for `status`, and the coordinator's reporter."""
    log = stack.enter_context(open_log(worker_folder))
    console = None if options.plain else find_terminal(no_color=options.no_color)
    view: EventHandler = PlainView(sys.stderr, sys.stdout) if console is None else TerminalView(console)
    return EventHandlers([view, PlainView(log, log), StatusFile(worker_folder), reporter])


def _describe(settings: Settings, runner: LocalRunner, agent: Agent, totals: Totals) -> WorkerStarted:
    return WorkerStarted(
        worker=settings.worker_name,
        device=runner.hardware.hardware_class,
        sandbox=runner.sandbox_name,
        agent=agent.name,
        coordinator=settings.coordinator_url,
        totals=totals,
    )


def _coordinator_folder(url: str) -> str:
    """One folder per coordinator: a result belongs to the one that gave its lease."""
    return f"{folder_name(url.partition('://')[2])}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
