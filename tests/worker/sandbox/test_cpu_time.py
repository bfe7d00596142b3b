"""All CPU time of a sandbox counts, whatever its processes do."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.sandbox.base import ProcessLimits, Sandbox, SandboxRequest
from worker.sandbox.choose import choose_sandbox

BURNT, OVERHEAD = 1.0, 0.9
"""CPU seconds: what each program burns, and at most what starting interpreters takes on a slow machine."""

PRELUDE = """
import os, signal, subprocess, sys, threading, time

def burn(seconds=1.0):
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        pass

def in_child(work):
    if os.fork() == 0:
        work()
        os._exit(0)
"""
PROGRAMS = {
    "itself": "burn()",
    "a child": "in_child(burn); os.wait()",
    "a child that nobody waits for": "in_child(burn); time.sleep(30)",
    "a child of a child that has ended": "in_child(lambda: in_child(burn)); os.wait(); time.sleep(30)",
    "another session": "in_child(lambda: (os.setsid(), in_child(burn))); os.wait(); time.sleep(30)",
    "a thread": "thread = threading.Thread(target=burn); thread.start(); thread.join()",
    "another program": "subprocess.run([sys.executable, '-c', PRELUDE + 'burn()'])",
    "many short ones": "for _ in range(20):\n    in_child(lambda: burn(0.05))\n    os.wait()",
}


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return choose_sandbox("bubblewrap")


@pytest.fixture
def burn(sandbox: Sandbox, tmp_path: Path) -> Callable[[str], float]:
    """The CPU seconds that a program is charged when it has said that it is done."""

    def run(program: str) -> float:
        tmp_path.chmod(0o755)
        code = f"PRELUDE = {PRELUDE!r}\n{PRELUDE}\n{program}\n"
        limits = ProcessLimits(memory_mib=256, processes=24, disk_mib=8)
        process = sandbox.start(SandboxRequest((sys.executable, "-I", "-c", code), limits, tmp_path))
        for _ in range(600):
            if process.wait(0.1) is not None or process.cpu_seconds() >= BURNT:
                break
        outcome = process.kill()
        assert outcome.log_tail == ""
        return process.cpu_seconds()

    return run


@pytest.mark.parametrize("way", PROGRAMS)
def test_counts(way: str, burn: Callable[[str], float]) -> None:
    assert BURNT <= burn(PROGRAMS[way]) < BURNT + OVERHEAD


def test_waiting_is_free(burn: Callable[[str], float]) -> None:
    assert burn("time.sleep(1.5)") < OVERHEAD
