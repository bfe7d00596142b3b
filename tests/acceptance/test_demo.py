"""`swarm demo` as a person meets it: real processes, real training, on a small text."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.tiny_project import PACKAGE, pack_text, serve_folder, write_codec_seed, write_tiny_seed

pytestmark = pytest.mark.acceptance

COMMAND = Path(sys.executable).with_name("swarm")
PATIENCE_SECONDS = 180


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Where the text comes from, over loopback."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / PACKAGE).write_bytes(pack_text())
    with serve_folder(tmp_path / "served") as address:
        yield address


@pytest.fixture
def training_seed(tmp_path: Path, address: str) -> Path:
    """A second of real training."""
    return write_tiny_seed(tmp_path / "seed", address, pack_text())


@pytest.fixture
def seed(tmp_path: Path, address: str) -> Path:
    """A compressor, whose runs need no machine learning and take less time."""
    return write_codec_seed(tmp_path / "seed", address, pack_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "demo"


def arguments(seed: Path, folder: Path, *more: str) -> list[str]:
    return [str(COMMAND), "demo", "--seed", str(seed), "--folder", str(folder), *more]


def run_to_end(seed: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(
        arguments(seed, folder, *more), env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


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


def test_ends_by_itself(training_seed: Path, folder: Path) -> None:
    done = run_to_end(training_seed, folder, "--experiments", "2", "--port", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_rows(done.stdout)
    # A quick run may end while the demo counts.
    assert [row[0] for row in rows] == [str(number + 1) for number in range(len(rows))] and len(rows) >= 2, done.stdout
    without_metric = {"timeout", "stopped_early"}  # as may happen on a machine with much else to do
    assert all("±" in row or without_metric & {*row} for row in rows), done.stdout
    assert "val_bpb" in done.stdout and "effect" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert processes_of(folder) == []
    assert (folder / "token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_leaves_no_process_and_the_demo_goes_on_next_time(
    seed: Path, folder: Path, tmp_path: Path, presses: int
) -> None:
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(arguments(seed, folder, "--port", "0"), stdout=file, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "experiment 1:" not in output.read_text():
        assert time.monotonic() < deadline and process.poll() is None, output.read_text()
        time.sleep(0.1)
    time.sleep(1)
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
        time.sleep(1)
    # To a shell both are 130: the second one may find a process that has said all and is about to end.
    ended = {130} if presses == 1 else {130, -signal.SIGINT}
    assert process.wait(PATIENCE_SECONDS) in ended, output.read_text()
    assert processes_of(folder) == []
    text = output.read_text()
    assert "Traceback" not in text
    ids = [row[0] for row in read_rows(text)]
    assert len(ids) >= (2 if presses == 1 else 1), "the run under way was finished, or given back"
    if presses == 1:
        again = run_to_end(seed, folder, "--experiments", "1", "--port", "0")
        assert again.returncode == 0, again.stdout + again.stderr
        ids_now = [row[0] for row in read_rows(again.stdout)]
        assert ids_now == [str(number + 1) for number in range(len(ids_now))] and len(ids_now) > len(ids), again.stdout
        assert "the project's seed, unchanged" not in again.stdout, "the baseline is measured once"
        assert processes_of(folder) == []


def test_a_demo_that_is_killed_leaves_no_process(seed: Path, folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
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
