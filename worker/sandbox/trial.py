"""Whether a sandbox works on this machine shows only by trying it."""

import sys
from pathlib import Path

from worker.sandbox.base import Limits, Sandbox, SandboxRequest

TRIAL_SECONDS = 30.0


def try_out(sandbox: Sandbox) -> str:
    """Run the interpreter in the sandbox; empty if that works, else the last thing that was said.

    Raises SandboxUnavailable where it does not even start.
    """
    limits = Limits(memory_mib=512, processes=16, disk_mib=16)
    argv = (sys.executable, "-I", "-c", "print('works')")
    process = sandbox.start(SandboxRequest(argv, limits, folder=Path(__file__).parent))
    outcome = process.wait(TRIAL_SECONDS) or process.kill()
    last = outcome.log_tail.rpartition("\n")[2]
    if outcome.exit_status == 0 and last == "works":
        return ""
    return last or f"signal {outcome.signal}"
