"""Which sandbox a worker uses. There is no silent fall-back: `auto` means a sandbox that works, or a refusal."""

import os
import tempfile
from pathlib import Path
from typing import Literal

from worker.sandbox.base import Gpu, Sandbox, SandboxedProcess, SandboxRequest, SandboxUnavailable
from worker.sandbox.bubblewrap import BubblewrapSandbox
from worker.sandbox.confinement import sandbox_environment, threads_of_user
from worker.sandbox.container import ContainerSandbox
from worker.sandbox.process import ConfinedProcess, LaunchPlan, resource_limits

SandboxName = Literal["auto", "bubblewrap", "container", "unconfined"]


def choose_sandbox(name: SandboxName, gpu: Gpu | None = None) -> Sandbox:
    """The sandbox of that name, tried by running the interpreter inside it; `auto`: bubblewrap, else a container.

    Raises SandboxUnavailable, with one clear line, if it does not work here.
    """
    if name == "unconfined":
        return UnconfinedSandbox(gpu)
    if name == "container":
        return ContainerSandbox(gpu)
    try:
        return BubblewrapSandbox(gpu)
    except SandboxUnavailable as error:
        if name == "bubblewrap":
            raise
        return _contain_instead(gpu, error)


def _contain_instead(gpu: Gpu | None, because: SandboxUnavailable) -> Sandbox:
    try:
        return ContainerSandbox(gpu)
    except SandboxUnavailable as error:
        raise SandboxUnavailable(f"{because}; nor does a container: {error}") from error


class UnconfinedSandbox:
    """Implements `Sandbox`."""

    name = "unconfined"

    def __init__(self, gpu: Gpu | None = None) -> None:
        """`gpu` is the one that processes may use if they ask for it."""
        self._gpu = gpu

    def start(self, request: SandboxRequest) -> SandboxedProcess:
        """See `Sandbox.start`."""
        scratch = tempfile.TemporaryDirectory(prefix="swarm-scratch-", ignore_cleanup_errors=True)
        plan = LaunchPlan(
            argv=request.argv,
            rlimits=resource_limits(request, other_processes=threads_of_user(os.geteuid())),
            cores=tuple(sorted(request.cores or ())),
        )
        environment = sandbox_environment(request, str(request.folder), scratch.name, self._gpu)
        return ConfinedProcess(plan.command(), request, environment, folder=Path(scratch.name), on_end=scratch.cleanup)
