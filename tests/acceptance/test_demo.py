"""`swarm demo` as real processes, on a small text."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from coordinator.admin.integrity import find_problems
from coordinator.db.database import Database
from coordinator.models import Lease
from tests.support.tiny_project import pack_text, write_codec_seed

pytestmark = pytest.mark.acceptance

COMMAND = Path(sys.executable).with_name("swarm")
TIMEOUT_SECONDS = 180


@pytest.fixture
def seed(text_server: str, tmp_path: Path) -> Path:
    """A compressor: its runs are short. test_installed.py has a demo that trains a network."""
    return write_codec_seed(tmp_path / "seed", text_server, pack_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "demo"


def arguments(seed: Path, folder: Path, *more: str) -> list[str]:
    return [str(COMMAND), "demo", "--seed", str(seed), "--folder", str(folder), *more]


def run_to_end(seed: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments(seed, folder, *more), capture_output=True, text=True, timeout=TIMEOUT_SECONDS)


def processes_of(folder: Path) -> list[str]:
    """Processes that still work in the demo's folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = [*(process.info["cmdline"] or []), *(process.info["environ"] or {}).values()]
        if process.pid != os.getpid() and any(str(folder) in word for word in words):
            found.append(" ".join(process.info["cmdline"] or []))
    return found


def read_rows(output: str) -> list[list[str]]:
    """The rows of the last table, cut into words. A long title goes on below its row, where it may end in a number."""
    table = output[output.rindex("what was tried") :].splitlines()[1:]
    return [line.split() for line in table if re.match(r" ?\d+ +(\d+|seed) ", line)]


@pytest.mark.timeout(600)
def test_ctrl_c_leaves_no_process_and_the_next_demo_goes_on(seed: Path, folder: Path, tmp_path: Path) -> None:
    """Stopped at once by two Ctrl-C, then after its run by one, never by SIGHUP under `nohup`; test_installed.py has
    one that ends by itself."""
    second = tmp_path / "second"
    given_back = interrupt(seed, folder, tmp_path / "first", presses=2)
    finished = interrupt(seed, folder, second, presses=1)
    assert finished[-1] > given_back[-1] >= 1, "after one Ctrl-C the run under way is finished"
    assert finished == list(range(finished[0], finished[-1] + 1)), second.read_text()
    text = second.read_text()
    assert "bits_per_byte" in text and "effect" in text and "±" in text
    assert max(map(len, text.splitlines())) <= 80
    assert (folder / "token").stat().st_mode & 0o777 == 0o600
    database = next(folder.rglob("*.db"))
    with closing(Database(f"sqlite:///{database}")) as opened, opened.read() as session:
        assert list(find_problems(session, lambda what, done, total: None)) == []
        # Later runs of the seed are controls, which both demos reach if they are given the time.
        baselines = select(Lease.id).where(Lease.why.contains("first job in this project"))
        assert len(session.scalars(baselines).all()) == 1, "the baseline is measured once"


def interrupt(seed: Path, folder: Path, output: Path, presses: int) -> list[int]:
    """Start a demo, press Ctrl-C while it runs an experiment after its first; the numbers of the experiments shown."""
    with output.open("w") as file:
        process = subprocess.Popen(
            ["nohup", *arguments(seed, folder, "--port", "0")],
            env={**os.environ, "COLUMNS": "80"}, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    deadline = time.monotonic() + TIMEOUT_SECONDS

    def wait_until(condition: Callable[[], object]) -> None:
        while not condition():
            assert time.monotonic() < deadline and process.poll() is None, output.read_text()
            time.sleep(0.05)

    said = r"(?s)is an anchor.*experiment \d+:"
    wait_until(lambda: re.search(said, output.read_text()) and is_measuring(folder))
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    if presses == 2:
        wait_until(lambda: "Ctrl-C again stops now" in output.read_text())
        process.send_signal(signal.SIGINT)
    # To a shell both are 130: the second signal may find a process that is about to end.
    ended = {130} if presses == 1 else {130, -signal.SIGINT}
    assert process.wait(TIMEOUT_SECONDS) in ended, output.read_text()
    assert processes_of(folder) == []
    assert "Traceback" not in output.read_text()
    return [int(row[0]) for row in read_rows(output.read_text())]


def is_measuring(folder: Path) -> bool:
    """Whether the demo's worker has begun a run that is not reported yet."""
    phases = dict(re.findall(r"job=(\w+) phase=(\w+)", (folder / "worker.log").read_text()))
    return "training" in phases.values()


def test_a_demo_that_is_killed_leaves_no_process(seed: Path, folder: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    with subprocess.Popen(arguments(seed, folder, "--port", "0"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "The swarm is at" in process.stdout.readline()
        while len(processes_of(folder)) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.kill()
    while remaining := processes_of(folder):
        assert time.monotonic() < deadline, remaining
        time.sleep(0.1)


def test_port_in_use_is_one_clear_line(seed: Path, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run_to_end(seed, folder, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "is in use" in done.stderr and done.stderr.count("\n") == 1
    assert processes_of(folder) == []


def test_a_folder_that_cannot_be_written(seed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_to_end(seed, tmp_path / "file" / "demo", "--port", "0")
    assert done.returncode == 1
    assert "cannot write to" in done.stderr and done.stderr.count("\n") == 1
