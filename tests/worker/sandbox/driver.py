"""A stand-in for the worker: starts one sandboxed process, as root or as a plain user, and tells its outcome."""

import contextlib
import os
import signal
import stat
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

from tests.support.forks import set_environment
from worker.sandbox import bubblewrap, container, landlock, process, seccomp
from worker.sandbox.base import ProcessLimits, Sandbox, SandboxRequest
from worker.sandbox.choose import choose_sandbox
from worker.sandbox.launcher import CLONE_NEWNS, MS_BIND, MS_PRIVATE, MS_REC, call, mount

REPOSITORY = Path(__file__).parents[3]
ORPHAN_STEP_SECONDS = 0.0005
WATCH_SECONDS = 0.05


@dataclass(frozen=True)
class DriverRequest:
    """`uid`: the plain user to become, None: stay. After `timeout` seconds, or when the test says so, it is killed.

    With `orphans`, so many are started instead, each by a process that is killed as soon as the program's arguments
    are seen in a process or a moment later, which is while the sandbox is being made; nothing is printed. `without`
    names a defence that is switched off, so that an attack can be seen to win; `environment` is the driver's own.
    """

    sandbox: str
    argv: list[str]
    limits: dict[str, int]
    folder: str
    timeout: float
    uid: int | None = None
    cores: list[int] | None = None
    orphans: int = 0
    without: str = ""
    environment: dict[str, str] = field(default_factory=dict)


def drive(asked: DriverRequest, line: Connection) -> None:
    """In a fork: start what is asked for, and send its outcome."""
    set_environment(asked.environment)
    if asked.uid is not None:
        become(asked.uid, [Path(sys.prefix), Path(sys.base_prefix), REPOSITORY])
    switch_off(asked.without)
    sandbox = choose_sandbox(asked.sandbox)  # type: ignore[arg-type]  # tests give one of the names
    if asked.without == "watch":  # which the trial of the sandbox needs
        process.read_use = lambda pid: 1 // 0  # type: ignore[assignment,return-value]
    cores = frozenset(asked.cores) if asked.cores else None
    request = SandboxRequest(tuple(asked.argv), ProcessLimits(**asked.limits), Path(asked.folder), cores=cores)
    if asked.orphans:
        for number in range(asked.orphans):
            orphan(sandbox, replace(request, argv=(*asked.argv, str(number))), delay=number * ORPHAN_STEP_SECONDS)
        return
    started, until = sandbox.start(request), time.monotonic() + asked.timeout
    while (outcome := started.wait(WATCH_SECONDS)) is None and not line.poll() and time.monotonic() < until:
        pass
    line.send(outcome or started.kill())


def switch_off(defence: str) -> None:
    if defence == "filter":
        allow_all = struct.pack("HBBI", seccomp.RETURN, 0, 0, seccomp.ALLOW)
        bubblewrap.filter_of_run = container.filter_of_run = landlock.filter_of_run = lambda *_, **__: allow_all
    elif defence == "devices":
        bubblewrap.cover_devices = lambda: iter(())
    elif defence == "memory":
        process.uncounted_bytes = lambda pids, limits: 0
    elif defence == "groups":
        bubblewrap.find_group = landlock.find_group = lambda: None
    elif defence == "counters":
        bubblewrap.find_counters = lambda: ()
    else:
        assert defence in ("", "watch")


def orphan(sandbox: Sandbox, request: SandboxRequest, delay: float) -> None:
    worker = os.fork()
    if worker == 0:
        sandbox.start(request)
        signal.pause()
    while not is_seen(request.argv):
        pass
    time.sleep(delay)
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)


def is_seen(argv: Sequence[str]) -> bool:
    """Whether a process of this machine has these as its last arguments; quicker than psutil's way."""
    end = "".join(f"{argument}\0" for argument in argv).encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            if path.read_bytes().endswith(end):
                return True
    return False


def become(uid: int, needed: list[Path]) -> None:
    """Become a plain user who can reach the `needed` folders even below folders that are closed to others."""
    call("unshare", CLONE_NEWNS)
    mount("none", "/", MS_REC | MS_PRIVATE)
    for path in needed:
        held = os.open(path, os.O_PATH)
        closed = [p for p in reversed(path.parents) if not p.stat().st_mode & stat.S_IXOTH]
        if closed:
            mount("tmpfs", str(closed[0]), 0, kind="tmpfs", options="mode=755")
            path.mkdir(parents=True)
            mount(f"/proc/self/fd/{held}", str(path), MS_BIND | MS_REC)
        os.close(held)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
