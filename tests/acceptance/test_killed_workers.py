"""A worker's process is killed in each phase of a job. Another one in the same folder goes on, and nothing is lost.

The project is seed/codec, which needs no machine learning; its file is slow on purpose, so that each phase lasts long
enough to be hit. A proxy between worker and coordinator holds requests, and keeps the ledger.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from coordinator.accounts.service import create_token
from coordinator.admin.integrity import find_problems
from coordinator.db.database import Database
from coordinator.projects.service import create_project
from tests.support.coordinator_process import Coordinator
from tests.support.databases import SqliteFolder
from tests.support.ledger import Ledger
from tests.support.proxy import Gate, serve_proxy
from tests.support.tiny_project import PACKAGE, codec_files, pack_text, serve_folder, write_codec_seed

pytestmark = pytest.mark.acceptance

PATIENCE_SECONDS = 120
SLOW_CODE = """
SLOWNESS = 1.5

import time

time.sleep(SLOWNESS)
_compress, _decompress = compress, decompress


def compress(text):
    time.sleep(SLOWNESS)
    return _compress(text)


def decompress(packed):
    time.sleep(SLOWNESS)
    return _decompress(packed)
"""


def write_script() -> str:
    """Two steps, each a whole file without the waiting, which fits whichever parent the coordinator draws."""
    code = codec_files()["codec.py"]
    steps = [
        {
            "title": f"NICE_LENGTH {length}, and no more waiting",
            "hypothesis": "Longer matches.",
            "axis": "NICE_LENGTH",
            "files": {"codec.py": code.replace("NICE_LENGTH = 64", f"NICE_LENGTH = {length}")},
        }
        for length in (128, 273)
    ]
    return json.dumps({"steps": steps})


class Laboratory:
    """A folder in which one worker's process after the other works."""

    def __init__(self, folder: Path, url: str, token: str, script: str | None = None, **settings: str) -> None:
        """With an empty script the search agent proposes; `settings` are further variables of the environment."""
        self._folder = folder
        self._url = url
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SWARM_")},
            "SWARM_TOKEN": token,
            "XDG_CONFIG_HOME": str(folder / "config"),
            "NO_COLOR": "1",
            **settings,
        }
        (folder / "script.json").write_text(write_script() if script is None else script)
        self._agent = [] if script == "" else ["--script", str(folder / "script.json")]
        self._log = folder / "worker.log"

    def start(self, *arguments: str) -> None:
        with self._log.open("w") as output:
            self.popen = subprocess.Popen(
                [
                    Path(sys.executable).with_name("swarm-worker"), "--device", "cpu", "--cores", "1", "--plain",
                    "--coordinator", self._url, "--name", "w1", "--data-dir", str(self._folder / "workers"),
                    *self._agent, *arguments,
                ],
                env=self._environment, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def said(self) -> str:
        return self._log.read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline and self.popen.poll() is None, self.said()
            time.sleep(0.02)

    def wait_for_phase(self, phase: str) -> None:
        self.wait_for(lambda: f"phase={phase}" in self.said())

    def kill(self) -> None:
        """kill -9, after which nothing that it started may go on."""
        started = psutil.Process(self.popen.pid).children(recursive=True)
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()
        _, alive = psutil.wait_procs(started, timeout=PATIENCE_SECONDS)
        assert not alive, alive

    def list_outbox(self) -> list[str]:
        """The files below the outbox: those that wait, and any that were set aside."""
        return [path.name for path in self._folder.glob("workers/workers/*/*/outbox/**/*.json")]


@pytest.fixture
def database(sqlite_folder: SqliteFolder, tmp_path: Path) -> Iterator[Database]:
    database = Database(sqlite_folder.create_migrated(tmp_path))
    yield database
    database.close()


@pytest.fixture
def gate(database: Database, tmp_path: Path) -> Iterator[tuple[Gate, Ledger]]:
    """A coordinator behind a proxy, with the project, whose text is served by this process."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / PACKAGE).write_bytes(pack_text())
    with serve_folder(tmp_path / "web") as address:
        with database.write() as session:
            create_project(session, write_codec_seed(tmp_path / "seed", address, pack_text(), SLOW_CODE))
        coordinator = Coordinator(database.url.render_as_string(), tmp_path)
        ledger = Ledger()
        try:
            with serve_proxy(Gate(coordinator.address, ledger)) as gate:
                yield gate, ledger
        finally:
            coordinator.kill()


@pytest.fixture
def laboratory(gate: tuple[Gate, Ledger], database: Database, tmp_path: Path) -> Iterator[Laboratory]:
    with database.write() as session:
        token = create_token(session, "ada", "test")
    laboratory = Laboratory(tmp_path, gate[0].url, token)
    yield laboratory
    if laboratory.popen.poll() is None:
        laboratory.kill()


@pytest.mark.timeout(900)
def test_a_worker_that_is_killed_in_each_phase_loses_nothing(
    laboratory: Laboratory, gate: tuple[Gate, Ledger], database: Database
) -> None:
    proxy, ledger = gate

    for phase in ("starting", "training", "scoring"):
        laboratory.start()
        laboratory.wait_for_phase(phase)
        laboratory.kill()
    assert laboratory.list_outbox() == [] and not ledger.sent

    held = proxy.hold("result", answered=False)  # the seed is measured, and the result does not arrive
    laboratory.start()
    laboratory.wait_for(held.is_set)
    laboratory.kill()
    assert len(laboratory.list_outbox()) == 1 and not ledger.sent

    held = proxy.hold("proposal", answered=True)  # what waited is delivered; an experiment is drafted and accepted
    laboratory.start()
    laboratory.wait_for(held.is_set)
    laboratory.kill()
    assert laboratory.list_outbox() == [] and len(ledger.acknowledged) == 1

    held = proxy.hold("result", answered=True)  # its code is free again; its result is stored, and nobody hears of it
    laboratory.start()
    laboratory.wait_for(held.is_set)
    laboratory.kill()
    assert len(laboratory.list_outbox()) == 1 and len(ledger.acknowledged) == 2

    laboratory.start("--max-jobs", "1")  # delivered again, and on with the next idea
    assert laboratory.popen.wait(PATIENCE_SECONDS) == 0, laboratory.said()
    assert laboratory.list_outbox() == [] and len(ledger.acknowledged) == 3
    ledger.check(database)
    check_history(proxy.url, database)


def check_history(url: str, database: Database) -> None:
    experiments = httpx.get(f"{url}/api/v1/experiments?project=codec", timeout=60).json()["items"]
    assert [(row["title"][:15], row["outcome"]) for row in experiments] == [
        ("NICE_LENGTH 273", "ok"),
        ("NICE_LENGTH 128", "ok"),
    ]
    assert httpx.get(f"{url}/api/v1/leases?project=codec", timeout=60).json()["items"] == []

    def show_nothing(what: str, done: int, total: int) -> None: ...

    with database.read() as session:
        assert list(find_problems(session, show_nothing)) == []
