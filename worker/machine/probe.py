"""Tries a device step by step in the sandbox, within the limits of a run: a few steps before the first job, all for
`doctor --deep`. The steps are those of device_steps.py.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.faults import find_fault
from worker.machine.faults import find_error_line
from worker.machine.hardware import HardwareError
from worker.sandbox.base import ProcessLimits, ProcessOutcome, Sandbox, SandboxRequest

PROBE_SECONDS = 300.0
"""Time for torch's first import from a cold disk, the first start of a GPU's driver, and a first compilation."""

RUN_LIMITS = ProcessLimits(memory_mib=49152, processes=512, disk_mib=8192)
"""Those of the seed for GPUs."""

SHORT_STEPS = ("nodes", "libcuda", "add", "free_memory")
GPU_STEPS = (*SHORT_STEPS, "bf16", "processes", "pinned", "compile", "attention")
CPU_STEPS = ("add", "bf16", "processes", "attention")


@dataclass(frozen=True)
class Check:
    """The result of one check: its finding, and advice if it is not `ok`."""

    name: str
    ok: bool
    found: str
    advice: str = ""

    def describe(self) -> str:
        """A line for the finding, and one for the advice."""
        line = f"{'ok ' if self.ok else 'BAD'} {self.name:12} {self.found}"
        return f"{line}\n    {'':12} {self.advice}" if self.advice else line


def try_steps(sandbox: Sandbox, device: str, names: Sequence[str]) -> Iterator[Check]:
    """Try steps on `device` (its name inside the sandbox). After one that fails, a new process goes on."""
    left = list(names)
    while left:
        done, outcome = _run(sandbox, device, left)
        yield from (Check(name, True, found) for name, found in done)
        left = left[len(done) :]
        if left:
            yield _failed(left.pop(0), outcome)


def try_device(sandbox: Sandbox, device: str, names: Sequence[str] = SHORT_STEPS) -> None:
    """The trial before a worker's first job. Takes seconds. Raises HardwareError."""
    for step in try_steps(sandbox, device, names):
        if not step.ok:
            told = f"torch cannot use {device} in the sandbox {sandbox.name}: {step.found}"
            raise HardwareError(f"{told}: {step.advice}" if step.advice else told)


def _run(sandbox: Sandbox, device: str, names: Sequence[str]) -> tuple[list[tuple[str, str]], ProcessOutcome | None]:
    """The steps that worked, each with its finding, and the end of the process; None if it took too long."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as results:
        try:
            argv = (sys.executable, "-B", "-P", "-s", "-m", "device_steps", str(writer), device, *names)
            process = sandbox.start(SandboxRequest(argv, RUN_LIMITS, Path(__file__).parent, (writer,), device=device))
        finally:
            os.close(writer)
        outcome = process.wait(PROBE_SECONDS)
        if outcome is None:
            process.kill()
        done = [json.loads(line) for line in results]
    return [(name, found) for name, found in done], outcome


def _failed(name: str, outcome: ProcessOutcome | None) -> Check:
    if outcome is None:
        return Check(name, False, f"it did not end within {PROBE_SECONDS:g} s")
    found = outcome.killed_for or find_error_line(outcome.log_tail) or f"signal {outcome.signal}"
    fault = find_fault(found, outcome.log_tail)
    return Check(name, False, found, fault.advice if fault else "")
