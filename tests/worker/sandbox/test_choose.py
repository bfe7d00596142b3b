"""The unconfined sandbox: no protection, but limits and an orderly end."""

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker.sandbox.conftest import Worker, choose_seconds
from tests.worker.workers import wait_until
from worker.sandbox.base import Gpu, ProcessLimits, SandboxRequest, SandboxUnavailable
from worker.sandbox.choose import UnconfinedSandbox, choose_sandbox


def test_is_used_only_when_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert choose_sandbox("unconfined").name == "unconfined"
    monkeypatch.setattr("worker.sandbox.landlock.find_version", lambda: 0)
    with pytest.raises(SandboxUnavailable, match=r"bubblewrap is not installed: .*; podman is not .*; landlock "):
        choose_sandbox("auto")


def test_reads_its_project_and_works_in_a_scratch_folder(unconfined: Worker) -> None:
    outcome = unconfined.run("""
        import os, train
        open("note", "w").write("x")
        print(train.DEPTH, os.getcwd() == os.environ["HOME"], os.getcwd())
    """)
    depth, at_home, scratch = outcome.log_tail.split()
    assert (depth, at_home) == ("4", "True")
    assert "swarm-scratch-" in scratch


def test_gets_no_environment_of_the_worker(unconfined: Worker) -> None:
    outcome = unconfined.run("import os; print(dict(os.environ))")
    assert "PYTHONPATH" in outcome.log_tail
    assert "canary" not in outcome.log_tail


def test_kills_a_memory_hog_and_says_so(unconfined: Worker) -> None:
    outcome = unconfined.run(
        """
        import faulthandler, signal, time
        faulthandler.register(signal.SIGQUIT, chain=True)
        hoard = []
        while True:
            hoard.append(b'x' * (4 << 20))
            time.sleep(0.02)
        """,
        memory_mib=200,
    )
    assert outcome.killed_for == "it used more than 200 MiB of memory"


def test_a_run_on_a_gpu_has_no_bound_on_addresses_but_one_on_memory(project: Path) -> None:
    sandbox = UnconfinedSandbox(Gpu("GPU-0", 0))
    code = textwrap.dedent("""
        import mmap, os
        print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
        MAP_NORESERVE = 0x4000  # as CUDA does it
        hoard = mmap.mmap(-1, 64 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
        for page in range(0, len(hoard), mmap.PAGESIZE):
            hoard[page] = 1
    """)
    argv = (sys.executable, "-c", code)
    request = SandboxRequest(argv, ProcessLimits(memory_mib=200, processes=64, disk_mib=8), project, device="cuda:0")
    outcome = sandbox.start(request).wait(60)
    assert outcome is not None
    assert (outcome.log_tail, outcome.killed_for) == ("GPU-0", "it used more than 200 MiB of memory")


def test_bounds_each_file(unconfined: Worker) -> None:
    outcome = unconfined.run(
        """
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            open("large", "wb", buffering=0).write(bytes(3 << 20))
            open("large", "ab", buffering=0).write(bytes(1 << 20))
        except OSError as error:
            print(error.strerror)
        """,
        disk_mib=2,
    )
    assert outcome.log_tail == "File too large"


def test_ends_what_ignores_signals_and_its_children(unconfined: Worker, count_marked: Callable[[str], int]) -> None:
    marker = choose_seconds()
    code = f"""
        import signal, subprocess, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["sleep", "{marker}"])
        subprocess.Popen(["setsid", "sleep", "{marker}"])
        time.sleep({marker})
    """
    with unconfined.start(code, timeout=240) as driver:
        wait_until(lambda: count_marked(marker) == 2)
        outcome = driver.end()
    assert outcome.signal == 9
    assert count_marked(marker) == 0


@pytest.mark.parametrize("detached", [False, True])
def test_ends_what_the_program_leaves(unconfined: Worker, count_marked: Callable[[str], int], detached: bool) -> None:
    marker = choose_seconds()
    outcome = unconfined.run(
        f"import subprocess; subprocess.Popen(['sleep', '{marker}'], start_new_session={detached})"
    )
    assert outcome.exit_status == 0
    assert count_marked(marker) == 0


def test_removes_the_scratch_folder(unconfined: Worker) -> None:
    outcome = unconfined.run("import os; open('note', 'w'); print(os.getcwd())")
    check = unconfined.run(f"import os; print(os.path.exists({outcome.log_tail!r}))")
    assert check.log_tail == "False"
