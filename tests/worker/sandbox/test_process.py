"""Output that is not to be trusted: endless, binary, or without lines."""

import errno
import os
import threading
import tracemalloc
from pathlib import Path
from queue import Queue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.sandbox.conftest import Worker
from worker.sandbox.base import ProcessLimits, SandboxRequest
from worker.sandbox.process import LOG_LINE_CHARACTERS, LOG_LINES, ConfinedProcess, LogTail


def test_keeps_the_last_lines_of_a_flood_without_the_flood(bubblewrap: Worker) -> None:
    outcome = bubblewrap.run(
        """
        import os
        line = b"a line of a long log\\n" * 3000
        for _ in range(100):
            os.write(1, line)
        """
    )
    assert outcome.log_tail.splitlines() == ["a line of a long log"] * LOG_LINES


def test_holds_no_more_than_its_lines_of_a_flood() -> None:
    log, chunk = LogTail(), b"a line of a long log\n" * 3000
    tracemalloc.start()
    for _ in range(300):
        log.add(chunk)
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest < 4_000_000, "18 MB went through it"


def test_keeps_the_last_words_before_the_end(bubblewrap: Worker) -> None:
    outcome = bubblewrap.run("import sys; print('first'); sys.stderr.write('last, no newline'); sys.exit(3)")
    assert (outcome.exit_status, outcome.log_tail) == (3, "first\nlast, no newline")


def test_names_the_signal(bubblewrap: Worker) -> None:
    outcome = bubblewrap.run("import os; os.kill(os.getpid(), 11)")
    assert (outcome.exit_status, outcome.signal) == (None, 11)


def test_what_can_no_longer_be_watched_is_ended(volunteer: Worker) -> None:
    outcome = volunteer.without("watch").run("import time; time.sleep(100)")
    assert outcome.killed_for == "its limits could not be watched"


def test_what_cannot_be_watched_from_its_start_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_none(pid: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    told = Queue[type[BaseException]]()
    monkeypatch.setattr(os, "pidfd_open", open_none)
    monkeypatch.setattr(threading, "excepthook", lambda given: told.put(given.exc_type))
    command = ("/bin/sleep", "600")
    process = ConfinedProcess(command, SandboxRequest(command, ProcessLimits(64, 4, 8), tmp_path), None, tmp_path)
    outcome = process.wait(60)
    assert outcome is not None and outcome.killed_for == "its limits could not be watched"
    assert told.get(timeout=60) is OSError  # raised in the watching thread, which ends last


def test_replaces_what_a_terminal_would_stumble_over() -> None:
    log = LogTail()
    log.add(b"\x1b[31mred\x00 \xff\xfe end\r50 %\r100 %\n")
    assert log.text() == "�[31mred� �� end\n50 %\n100 %"


@given(st.lists(st.binary(max_size=3000), max_size=12))
def test_is_bounded_whatever_comes(chunks: list[bytes]) -> None:
    log = LogTail()
    for chunk in chunks:
        log.add(chunk)
    lines = log.text().split("\n")
    assert len(lines) <= LOG_LINES
    assert all(len(line) <= LOG_LINE_CHARACTERS for line in lines)
    assert len(log.text()) < 20_000


@given(st.text(alphabet="äé€ x\n", max_size=200), st.integers(1, 7))
def test_puts_characters_together_that_came_in_pieces(text: str, size: int) -> None:
    whole, pieces = LogTail(), LogTail()
    encoded = text.encode()
    whole.add(encoded)
    for start in range(0, len(encoded), size):
        pieces.add(encoded[start : start + size])
    assert pieces.text() == whole.text()
