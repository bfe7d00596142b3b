"""No protection: for machines where no sandbox works, and only when asked for by name.

The process can read and write whatever the user can, use the network, and see other processes. What remains is what
keeps a run orderly: an allow-listed environment, a scratch folder that is removed, limits on address space, file
size and processes (the last not for root), the watchdog on memory, and an end for every process that descends from the
run's, detached or not. A program that kills the guard of the run (`worker.sandbox.launcher`) can outlive it.
"""

import os
import tempfile
from pathlib import Path

from worker.sandbox.base import Gpu, SandboxedProcess, SandboxRequest
from worker.sandbox.confinement import sandbox_environment
from worker.sandbox.process import ConfinedProcess, LaunchPlan, resource_limits
from worker.sandbox.users import threads_of_user


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
