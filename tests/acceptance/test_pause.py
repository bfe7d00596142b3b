"""A volunteer wants the machine back: pause frees it at once, resume goes on, finish ends after the run.

A real worker's process on seed/codec, whose file is slow on purpose and deaf to SIGTERM, and the commands as a person
gives them.
"""

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from coordinator.accounts.service import create_token
from coordinator.db.database import Database
from coordinator.projects.service import create_project
from tests.acceptance.test_killed_workers import PATIENCE_SECONDS, Laboratory
from tests.support.coordinator_process import Coordinator
from tests.support.databases import SqliteFolder
from tests.support.tiny_project import PACKAGE, pack_text, serve_folder, write_codec_seed

pytestmark = pytest.mark.acceptance

SLOW_CODE = """
import signal
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
_compress = compress


def compress(text):
    for _ in range(50):  # many short sleeps: a process that is held sleeps no less afterwards
        time.sleep(0.1)
    return _compress(text)
"""


class Desk:
    """Where the volunteer sits: the worker, its commands, and the coordinator's pages."""

    def __init__(self, laboratory: Laboratory, coordinator: Coordinator, data_dir: Path) -> None:
        self.laboratory, self._data_dir = laboratory, data_dir
        self._url = f"http://127.0.0.1:{coordinator.address[1]}"

    def tell(self, command: str, *arguments: str) -> str:
        program = Path(sys.executable).with_name("swarm-worker")
        done = subprocess.run(
            [program, command, "--data-dir", self._data_dir, *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout

    def status(self) -> dict[str, str]:
        (worker,) = json.loads(self.tell("status", "--json"))
        assert isinstance(worker, dict)
        return worker

    def seen(self) -> tuple[str, str]:
        """What the coordinator says of the worker: its state, and the reason."""
        (row,) = httpx.get(f"{self._url}/api/v1/workers", timeout=60).json()["items"]
        return row["state"], row["reason"]

    def page(self) -> str:
        return httpx.get(f"{self._url}/projects/codec/live", timeout=60).text

    def sandboxed(self) -> list[psutil.Process]:
        """What trains or scores now."""
        return psutil.Process(self.laboratory.popen.pid).children(recursive=True)


@pytest.mark.timeout(600)
def test_the_machine_is_free_while_paused_and_everybody_sees_it(sqlite_folder: SqliteFolder, tmp_path: Path) -> None:
    database = Database(sqlite_folder.create_migrated(tmp_path))
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / PACKAGE).write_bytes(pack_text())
    with serve_folder(tmp_path / "web") as address:
        with database.write() as session:
            create_project(session, write_codec_seed(tmp_path / "seed", address, pack_text(), SLOW_CODE))
            token = create_token(session, "ada", "test")
        coordinator = Coordinator(database.url.render_as_string(), tmp_path)
        url = f"http://127.0.0.1:{coordinator.address[1]}"
        laboratory = Laboratory(tmp_path, url, token, script="")
        try:
            laboratory.start()
            pause_and_go_on(Desk(laboratory, coordinator, tmp_path / "workers"))
        finally:
            if laboratory.popen.poll() is None:
                laboratory.kill()
            coordinator.kill()
    database.close()


def pause_and_go_on(desk: Desk) -> None:
    laboratory = desk.laboratory
    laboratory.wait_for_phase("training")
    assert desk.sandboxed()
    begun = time.monotonic()
    assert "pausing" in desk.tell("pause")
    laboratory.wait_for(lambda: not desk.sandboxed())
    print(f"paused after {time.monotonic() - begun:.1f} s")  # noqa: T201 - for people; a loaded machine takes longer
    laboratory.wait_for(lambda: desk.status()["state"].startswith("Paused, until"))
    laboratory.wait_for(lambda: desk.seen() == ("paused", "Paused, until `swarm-worker resume`."))
    assert "w1-cpu" in desk.page() and "paused:" in desk.page()
    assert "Nobody works on this project" in desk.page()

    runs = laboratory.said().count("phase=training")
    desk.tell("resume")
    laboratory.wait_for(lambda: laboratory.said().count("phase=training") > runs)
    assert "experiments follow" not in laboratory.said(), "no waiting for a job that was given back"
    held = desk.sandboxed()
    for process in held:
        with suppress(psutil.NoSuchProcess):
            process.suspend()  # so that the run lasts until all was looked at
    assert desk.seen()[0] == "working"
    assert "ends after this run" in desk.tell("finish")
    laboratory.wait_for(lambda: desk.status().get("ending") == "ends after this run")
    laboratory.wait_for(lambda: "ends after this run" in desk.page())
    for process in held:
        with suppress(psutil.NoSuchProcess):
            process.resume()
    assert laboratory.popen.wait(PATIENCE_SECONDS) == 0, laboratory.said()
    assert laboratory.said().count("event=run") == 1
    assert desk.seen()[0] == "stopped"
