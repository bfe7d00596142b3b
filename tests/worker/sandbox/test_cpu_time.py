"""All CPU time of a sandbox counts, whatever its processes do."""

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.sandbox import bubblewrap, seccomp
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
        process = sandbox.start(
            SandboxRequest((sys.executable, "-I", "-c", code), limits, tmp_path, counts_cpu_time=True)
        )
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


IGNORES = """
if way == "ignores SIGCHLD":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
else:
    import ctypes
    action = (ctypes.c_ulong * 19)()
    ctypes.cast(ctypes.byref(action, 136), ctypes.POINTER(ctypes.c_int))[0] = 2  # SA_NOCLDWAIT, in struct sigaction
    ctypes.CDLL(None).sigaction(int(signal.SIGCHLD), ctypes.byref(action), None)
for _ in range(20):
    in_child(lambda: burn(0.05))
    try:
        os.wait()
    except ChildProcessError:
        pass
"""


@pytest.mark.parametrize("way", ["ignores SIGCHLD", "wants no zombies"])
def test_no_parent_lets_the_kernel_forget(
    way: str, burn: Callable[[str], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = f"way = {way!r}\n{IGNORES}"
    assert BURNT <= burn(program) < BURNT + OVERHEAD
    allow_all = struct.pack("HBBI", seccomp.RETURN, 0, 0, seccomp.ALLOW)
    monkeypatch.setattr(bubblewrap, "filter_of_run", lambda gpu, counts_cpu_time: allow_all)
    assert burn(program) < BURNT


def test_waiting_is_free(burn: Callable[[str], float]) -> None:
    assert burn("time.sleep(1.5)") < OVERHEAD
