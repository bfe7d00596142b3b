"""worker/loop/lock.py"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from worker.loop.lock import AlreadyRunning, hold, is_held

_HOLDER = """
import sys, time
from pathlib import Path
from worker.loop.lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    folder = tmp_path / "workers" / "box-cpu"
    process = subprocess.Popen([sys.executable, "-c", _HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(AlreadyRunning, match="box-cpu"), hold(folder):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with hold(folder), hold(folder.with_name("box-gpu0")):
        pass
    with hold(folder):
        pass


_ASKER = """
import sys
from pathlib import Path
from worker.loop.lock import is_held
print("asking", flush=True)
while True:
    is_held(Path(sys.argv[1]))
"""


def test_a_question_neither_refuses_a_start_nor_makes_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "box-cpu"
    assert not is_held(folder)
    assert not folder.exists()
    with subprocess.Popen([sys.executable, "-c", _ASKER, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asking\n"
        try:
            for _ in range(10_000):
                with hold(folder):
                    pass
        finally:
            process.kill()
    with hold(folder):
        assert is_held(folder)
    assert not is_held(folder)
