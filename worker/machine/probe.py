"""Whether torch works where runs will use it: inside the sandbox, on the device that was asked for."""

import sys
from pathlib import Path

from worker.machine.hardware import HardwareError
from worker.sandbox import Limits, Sandbox, SandboxRequest

PROBE_SECONDS = 120.0
"""torch's first import on a cold disk, and the first start of a GPU's driver."""

LIMITS = Limits(memory_mib=8192, processes=512, disk_mib=64, open_files=1024)
_CODE = "import sys, torch; print('sum', int(torch.ones(1000, device=sys.argv[1]).sum()))"


def try_torch(sandbox: Sandbox, device: str) -> None:
    """Let torch add numbers on `device`, as sandboxed processes name it. Takes seconds.

    Raises HardwareError, whose one line says why it cannot: a GPU that was asked for is used, or the worker stops.
    """
    argv = (sys.executable, "-I", "-c", _CODE, device)
    process = sandbox.start(
        SandboxRequest(argv, LIMITS, folder=Path(__file__).parents[1] / "authoring" / "template", device=device)
    )
    outcome = process.wait(PROBE_SECONDS)
    if outcome is None:
        process.kill()
        raise HardwareError(f"torch did not add numbers on {device} within {PROBE_SECONDS:g} s, in {sandbox.name}")
    said = outcome.log_tail.rpartition("\n")[2]
    if outcome.exit_status != 0 or said != "sum 1000":
        why = outcome.killed_for or said or f"signal {outcome.signal}"
        raise HardwareError(f"torch cannot use {device} in the sandbox {sandbox.name}: {why}")
