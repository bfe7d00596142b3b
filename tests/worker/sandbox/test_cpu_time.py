"""All CPU time of a sandbox counts, whatever its processes do."""

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.sandbox import bubblewrap, cpu_time, seccomp
from worker.sandbox.base import CpuSeconds, ProcessLimits, Sandbox, SandboxRequest
from worker.sandbox.choose import choose_sandbox

BURNT, OVERHEAD = 0.5, 0.45
"""CPU seconds: what each program burns, and at most what starting interpreters takes on a slow machine."""

LIMITS = ProcessLimits(memory_mib=4096, processes=128, disk_mib=8)

PRELUDE = """
import ctypes, os, resource, signal, socket, subprocess, sys, threading, time

def burn(seconds=0.5):
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        pass

def in_child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid
"""
PROGRAMS = {
    "itself": "burn()",
    "a child": "in_child(burn); os.wait()",
    "a child that nobody waits for": "in_child(burn); time.sleep(600)",
    "a child of a child that has ended": "in_child(lambda: in_child(burn)); os.wait(); time.sleep(600)",
    "another session": "in_child(lambda: (os.setsid(), in_child(burn))); os.wait(); time.sleep(600)",
    "a thread": "thread = threading.Thread(target=burn); thread.start(); thread.join()",
    "a thread that outlives the first": (
        "threading.Thread(target=lambda: (burn(), time.sleep(600))).start()\nctypes.CDLL(None).pthread_exit(None)"
    ),
    "another program": "subprocess.run([sys.executable, '-c', PRELUDE + 'burn()'])",
    "many short ones": "for _ in range(20):\n    in_child(lambda: burn(0.025))\n    os.wait()",
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
        process = sandbox.start(
            SandboxRequest((sys.executable, "-I", "-c", code), LIMITS, tmp_path, counts_cpu_time=True)
        )
        for _ in range(1200):
            if process.wait(0.1) is not None or process.cpu_seconds().most >= BURNT:
                break
        outcome = process.kill()
        assert outcome.log_tail == ""
        return process.cpu_seconds().most

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
    in_child(lambda: burn(0.025))
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
    assert burn("time.sleep(1)") < OVERHEAD


PHASES = """
line = socket.socket(fileno=int(sys.argv[1]))

def used():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)

def report():
    line.send(str(used()).encode())
    line.recv(1)

report()
"""
HIDES = """
def live_on(pipe):
    in_child(lambda: burn(0.007))
    os.wait()
    os.write(pipe[1], b"x")
    signal.pause()

pipe = os.pipe()
parents = []
for _ in range(100):
    parents.append(in_child(lambda: live_on(pipe)))
    os.read(pipe[0], 1)
report()
for pid in parents:
    os.kill(pid, signal.SIGTERM)
for _ in parents:
    os.wait()
report()
"""
ENDS_MEANWHILE = """
def live_on(pipe):
    burn(0.03)
    os.write(pipe[1], b"x")
    signal.pause()

pipe = os.pipe()
helpers = [in_child(lambda: live_on(pipe)) for _ in range(50)]
for _ in helpers:
    os.read(pipe[0], 1)
line.send(b"0")  # read, while they end
for pid in helpers:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    time.sleep(0.001)
line.recv(1)
report()
"""
LOADS = """
pipes = [(os.pipe(), os.pipe()) for _ in range(4)]

def load(asks, tells):
    while os.read(asks[0], 1) == b"x":
        burn(0.05)
        os.write(tells[1], b"x")

for asks, tells in pipes:
    in_child(lambda: load(asks, tells))
report()
threads = [threading.Thread(target=burn, args=(0.2,)) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(4):
    for asks, tells in pipes:
        os.write(asks[1], b"x")
    for asks, tells in pipes:
        os.read(tells[0], 1)
for thread in threads:
    thread.join()
report()
for asks, tells in pipes:
    os.write(asks[1], b"-")
for _ in pipes:
    os.wait()
report()
"""

Phases = list[tuple[float, CpuSeconds]]


@pytest.fixture
def follow(sandbox: Sandbox, tmp_path: Path) -> Callable[[str], Phases]:
    """At each report of a program: the CPU seconds it knows of, its own and those of its ended children; a reading."""

    def run(program: str) -> Phases:
        tmp_path.chmod(0o755)
        ours, theirs = socket.socketpair()
        ours.settimeout(120)
        with ours:
            with theirs:
                argv = (sys.executable, "-I", "-c", f"{PRELUDE}\n{PHASES}\n{program}", str(theirs.fileno()))
                descriptors = (theirs.fileno(),)
                process = sandbox.start(SandboxRequest(argv, LIMITS, tmp_path, descriptors, counts_cpu_time=True))
            found = []
            while told := ours.recv(64):
                found.append((float(told), process.cpu_seconds()))
                ours.send(b"x")
        assert process.kill().log_tail == ""
        return found

    return run


def test_rounding_hides_nothing(follow: Callable[[str], Phases]) -> None:
    """/proc rounds down what each living process's ended children have used."""
    (begun, before), (_, reading), (ended, _) = follow(HIDES)
    used = ended - begun
    assert reading.least - before.least < used - 0.5, "the attack wins where nothing is added for rounding"
    assert reading.most - before.least >= used


def test_who_ends_while_times_are_read_counts(follow: Callable[[str], Phases]) -> None:
    """A process that is read after its parent, and has ended by then, is in neither."""
    (begun, before), (_, reading), (ended, _) = follow(ENDS_MEANWHILE)
    used, noise = ended - begun, 0.05
    assert reading.least - before.least - noise <= used <= reading.most - before.least + noise


def test_threads_and_loaders_are_charged_what_they_use(follow: Callable[[str], Phases]) -> None:
    _, (begun, before), *later = follow(LOADS)
    used, rounding, noise = later[-1][0] - begun, 4 * 0.02, 0.05
    for _, reading in later:
        assert used - noise < reading.most - before.least < used + rounding + noise


@pytest.mark.parametrize("hides_lists", [False, True])
def test_a_tree_has_all_its_processes_also_where_the_kernel_keeps_no_lists_of_children(
    hides_lists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hides_lists:
        monkeypatch.setattr(cpu_time, "_has_lists_of_children", lambda: False)
    script = "sleep 600 & (sleep 600; :) & echo; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as shell:
        assert shell.stdout is not None and shell.stdout.readline()
        try:
            while (found := [process.pid for process in cpu_time.list_trees([shell.pid])]) and len(found) < 4:
                pass  # until the shell within has started its own
            assert found[0] == shell.pid and len(set(found)) == len(found) == 4
        finally:
            os.killpg(shell.pid, 9)
    assert list(cpu_time.list_trees([2**22 + 1])) == []
