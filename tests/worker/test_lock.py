"""worker/lock.py"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from worker.lock import AlreadyRunning, hold

_HOLDER = """
import sys, time
from pathlib import Path
from worker.lock import hold
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
