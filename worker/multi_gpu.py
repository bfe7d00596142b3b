"""Several GPUs: one worker's process for each, and this one, which starts them, passes signals on, and speaks for them.

A worker that ends by a mistake is started again, after a while, if it had measured something before; one that could
not begin is not, and the others go on: what is wrong with one GPU is told, and is in the exit status at the end.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

from worker.api.retry import Backoff
from worker.commands.options import Options
from worker.loop.stop import Stop
from worker.settings import Settings
from worker.team_view import PlainTeamView, TeamView, TerminalTeamView
from worker.ui.plain import STOP_AFTER, STOP_NOW
from worker.ui.terminal import find_terminal

LOOK_SECONDS = 0.2
PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>

FINAL = (0, 2, 4, 75, 130)
"""Statuses with which a worker is done, or would end again at once (worker/start.py)."""

NOTHING_TO_DO = 75

_OPTIONS = {"coordinator_url": "coordinator", "agent_paths": "agent_path"}
"""Settings whose flag has another name."""


@dataclass
class Member:
    """One worker's process. `name` is how its lines are marked, and `command` starts it, once or again."""

    name: str
    command: Sequence[str]
    process: "subprocess.Popen[str] | None" = None
    status: int | None = None
    has_measured: bool = False
    starts_at: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)
    readers: list[threading.Thread] = field(default_factory=list)


class Team:
    """Use `run` from the main thread: the processes end with the thread that started them."""

    def __init__(self, members: Sequence[Member], view: TeamView, *, restarts: bool) -> None:
        self._members, self._view, self._restarts = list(members), view, restarts

    def run(self, stop: Stop) -> int:
        """Work until all have ended; the exit status for all of them."""
        passed_on = 0
        while any(member.status is None for member in self._members):
            asked = stop.draining.is_set() + stop.now.is_set()
            while passed_on < asked:
                passed_on += 1
                self._signal()
            for member in self._members:
                self._look_after(member, draining=bool(asked))
            self._view.tick()
            time.sleep(LOOK_SECONDS)
        return total_status([member.status or 0 for member in self._members])

    def _look_after(self, member: Member, *, draining: bool) -> None:
        """Start it, or see whether it has ended."""
        if member.status is not None:
            return
        if member.process is None:
            if draining:
                member.status = 0
            elif time.monotonic() >= member.starts_at:
                self._start(member)
            return
        status = member.process.poll()
        if status is None:
            return
        for reader in member.readers:
            reader.join()
        member.process = None
        if status in FINAL or draining or not self._restarts or not (member.has_measured or status < 0):
            member.status = status
            return
        wait = member.backoff.next_wait()
        member.starts_at = time.monotonic() + wait
        again = f"swarm-worker: it ended with status {status}, and is started again in {wait:.0f} s"
        self._view.line(member.name, again, is_result=False)

    def _start(self, member: Member) -> None:
        member.process = subprocess.Popen(  # noqa: S603 - this very program
            member.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C reaches this process alone, which passes it on once
        )
        assert member.process.stdout is not None and member.process.stderr is not None
        pipes = ((member.process.stdout, True), (member.process.stderr, False))
        member.readers = [
            threading.Thread(target=self._read, args=(member, source, is_result), daemon=True)
            for source, is_result in pipes
        ]
        for reader in member.readers:
            reader.start()

    def _read(self, member: Member, source: TextIO, is_result: bool) -> None:
        """Pass on its lines. What stands on stdout is a run's."""
        with source:
            for line in source:
                if is_result:
                    member.has_measured = True
                    member.backoff.reset()
                self._view.line(member.name, line.rstrip("\n"), is_result=is_result)

    def _signal(self) -> None:
        for member in self._members:
            if member.process is not None and member.process.poll() is None:
                member.process.send_signal(signal.SIGTERM)


def run_team(
    settings: Settings, devices: Sequence[str], flags: Mapping[str, Any], options: Options, tell: Callable[[str], None]
) -> int:
    """One worker for each device, until all have ended; the exit status. Each checks its own device and settings."""
    cores = settings.cores or max(1, len(os.sched_getaffinity(0)) // len(devices))
    folders = {name_of(device): settings.model_copy(update={"device": device}).worker_folder for device in devices}
    members = [
        Member(name_of(device), worker_command({**flags, "device": device, "cores": cores}, options))
        for device in devices
    ]
    stop, restarts = Stop(), not options.once and options.max_jobs is None
    with ExitStack() as stack:
        console = None if options.plain else find_terminal(no_color=options.no_color)
        view: TeamView = PlainTeamView(sys.stderr, sys.stdout)
        if console is not None:
            view = stack.enter_context(TerminalTeamView(console, folders))
        stack.enter_context(stop.on_signals(lambda: tell(STOP_NOW if stop.now.is_set() else STOP_AFTER)))
        return Team(members, view, restarts=restarts).run(stop)


def name_of(device: str) -> str:
    """`gpu0` for `cuda:0`."""
    return device.replace("cuda:", "gpu")


def total_status(statuses: Sequence[int]) -> int:
    """One exit status for several: that there was nothing to do only if that is so for all, else the worst."""
    if all(status == NOTHING_TO_DO for status in statuses):
        return NOTHING_TO_DO
    failures = [status if status > 0 else 128 - status for status in statuses if status not in (0, NOTHING_TO_DO)]
    return max(failures, default=0)


def worker_command(flags: Mapping[str, Any], options: Options) -> list[str]:
    """How to start one worker with these flags, as a child of this process. Lines of its own mark nothing."""
    words = [sys.executable, "-m", "worker.cli", "run", "--plain", "--parent", str(os.getpid())]
    for name, value in {**flags, **asdict(options)}.items():
        option = "--" + _OPTIONS.get(name, name).replace("_", "-")
        if name in ("plain", "parent") or value is None or value is False:
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [option] if one is True else [option, str(one)]
    return words


def end_with_parent(parent: int, tell: Callable[[], None]) -> None:
    """Have this process told to finish (SIGTERM) when its parent ends; `tell` is called if it has ended already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        tell()
