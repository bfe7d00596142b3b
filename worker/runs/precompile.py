"""Compiles a project's own code once per machine; the trainers of its runs start with the result."""

import os
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event

from worker.runs.harness_process import HarnessFault, HarnessNotReady, Stopped
from worker.runs.harness_protocol import Keep, Kept, Start
from worker.runs.processes import MIB, RunProcesses
from worker.runs.spec import RunImpossible, RunSpec, RunStopped
from worker.sandbox.shared_memory import SharedMemory


def compile_ahead(spec: RunSpec, archive: Path, stop: Event) -> bool:
    """Start `spec`'s code, which is the project's own, as in a run, and keep its compiled code in `archive`.

    False if the code does not start, or its compiled code exceeds the contract's `compiled_mib`; runs then compile for
    themselves. Raises RunStopped if `stop` was set, RunImpossible if this machine cannot run the harness, OSError.
    """
    with SharedMemory("compiled", spec.contract.limits.compiled_mib * MIB) as room:
        try:
            size = min(_compile_into(room, spec, stop), room.size)
        except Stopped:
            raise RunStopped("the worker was stopped while it compiled the project's own code") from None
        except HarnessNotReady as fault:
            raise RunImpossible(f"this machine cannot run the project's harness: {fault.reason}") from fault
        except HarnessFault:
            return False
        if size:
            _save(room, size, archive)
        return size > 0


def _compile_into(room: SharedMemory, spec: RunSpec, stop: Event) -> int:
    """The size of the archive that the trainer wrote. Raises Stopped and HarnessFault."""
    deadline = time.monotonic() + spec.contract.budget.starting_seconds
    with ExitStack() as stack:
        processes = RunProcesses(replace(spec, compiled=None), stop, stack)
        processes.trainer.await_ready()
        processes.begin_trainer()
        processes.trainer.expect(Start, deadline=deadline)
        processes.trainer.send(Keep(), [room.descriptor])
        return processes.trainer.expect(Kept, deadline=deadline).size


def _save(room: SharedMemory, size: int, archive: Path) -> None:
    """Write the first `size` bytes to `archive`, atomically."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_name(f"{archive.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            done = 0
            while done < size:
                done += os.sendfile(file.fileno(), room.descriptor, done, size - done)
        part.replace(archive)
    finally:
        part.unlink(missing_ok=True)
