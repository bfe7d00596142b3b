"""What a project's untouched code compiles: made once on a machine, for the trainers of its runs to begin with."""

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
    """Let `spec`'s code, which is the project's own, start as in a run, and keep what it compiled in `archive`.

    False where there is nothing to keep: the code does not start here, or what it compiled exceeds the contract's
    `compiled_mib`. Runs then compile for themselves. Raises RunStopped if `stop` was set, RunImpossible if this machine
    cannot run the harness, and OSError of the disk.
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
    """Put the first `size` bytes where archives are kept. The file appears whole or not at all."""
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
