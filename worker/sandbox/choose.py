"""Chooses the worker's sandbox. `auto` never falls back to running unprotected: it finds a sandbox or fails."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from shared.runs import RunLimit
from worker.machine.scratch import make_scratch
from worker.sandbox.base import Gpu, Sandbox, SandboxedProcess, SandboxRequest, SandboxUnavailable
from worker.sandbox.bubblewrap import BubblewrapSandbox
from worker.sandbox.confinement import sandbox_environment, threads_of_user
from worker.sandbox.container import ContainerSandbox
from worker.sandbox.landlock import LandlockSandbox
from worker.sandbox.process import ConfinedProcess, LaunchPlan, resource_limits

SandboxName = Literal["auto", "bubblewrap", "container", "landlock", "unconfined"]


CONFINING: dict[str, Callable[[Gpu | None], Sandbox]] = {
    "bubblewrap": BubblewrapSandbox,
    "container": ContainerSandbox,
    "landlock": LandlockSandbox,
}
"""The sandboxes that protect this machine, the best first."""


def choose_sandbox(name: SandboxName, gpu: Gpu | None = None) -> Sandbox:
    """The sandbox of that name, after a trial; `auto` is the best that works. Raises SandboxUnavailable."""
    if name == "unconfined":
        return UnconfinedSandbox(gpu)
    refusals = []
    for make in CONFINING.values() if name == "auto" else (CONFINING[name],):
        try:
            return make(gpu)
        except SandboxUnavailable as error:
            refusals.append(str(error))
    raise SandboxUnavailable("; ".join(refusals))


class UnconfinedSandbox:
    """Implements `Sandbox` without protection, for machines where no sandbox works; only on explicit request.

    The process can read and write everything the user can, use the network, and see other processes. It still has an
    allow-listed environment, a scratch folder that is removed, limits on address space, file size and processes (the
    last not for root), the memory watchdog, and an end for all its descendants. A program that kills its guard
    (worker/sandbox/launcher.py) can outlive the run.
    """

    name = "unconfined"
    limits: tuple[RunLimit, ...] = ()

    def __init__(self, gpu: Gpu | None = None) -> None:
        """`gpu` is for processes whose request names a GPU."""
        self._gpu = gpu

    def start(self, request: SandboxRequest) -> SandboxedProcess:
        scratch = make_scratch("scratch")
        plan = LaunchPlan(
            argv=request.argv,
            rlimits=resource_limits(request, other_processes=threads_of_user(os.geteuid())),
            cores=tuple(sorted(request.cores or ())),
        )
        environment = sandbox_environment(request, str(request.folder), scratch.name, self._gpu)
        return ConfinedProcess(plan.command(), request, environment, folder=Path(scratch.name), on_end=scratch.cleanup)
