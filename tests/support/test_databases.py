"""A PostgreSQL server of tests that are killed: it ends, and its folder goes."""

import signal
import subprocess
from pathlib import Path

from tests.support.databases import guard
from tests.support.forks import fork
from tests.worker.workers import wait_until


def hold(folder: Path) -> None:
    with guard(str(folder)):
        (folder / "guarded").touch()
        signal.pause()


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir()
    # As the server's own handler does: a shell starts what runs in its background with SIGQUIT ignored.
    with subprocess.Popen(["env", "--default-signal=QUIT", "sleep", "180"]) as server:
        (folder / "postmaster.pid").write_text(f"{server.pid}\n{folder}\n")
        process = fork(hold, folder)
        wait_until((folder / "guarded").exists)
        assert server.poll() is None
        process.kill()
        assert server.wait(120) == -signal.SIGQUIT
    process.join()
    process.close()
    wait_until(lambda: not folder.exists())
