"""A worker's process is killed in each phase of a job. Another one in the same folder goes on, and nothing is lost.

The project is seed/codec, which needs no machine learning; its file is slow on purpose, so that each phase lasts long
enough to be hit. A proxy between worker and coordinator holds requests, and keeps the ledger.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from coordinator.admin.integrity import find_problems
from coordinator.db.database import Database
from coordinator.projects.service import create_project
from tests.support.coordinator_process import Coordinator
from tests.support.ledger import Ledger
from tests.support.proxy import HoldingProxy, serve_proxy
from tests.support.tiny_project import codec_files, pack_text, write_codec_seed
from tests.support.tokens import create_token
from tests.support.worker_process import TIMEOUT_SECONDS, RestartableWorker

pytestmark = pytest.mark.acceptance

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


@pytest.fixture
def gate(database: Database, text_server: str, tmp_path: Path) -> Iterator[tuple[HoldingProxy, Ledger]]:
    """A coordinator behind a proxy, with the project, whose text is served by this process."""
    with database.write() as session:
        create_project(session, write_codec_seed(tmp_path / "seed", text_server, pack_text(), SLOW_CODE))
    coordinator = Coordinator(database.url.render_as_string(), tmp_path)
    ledger = Ledger()
    try:
        with serve_proxy(HoldingProxy(coordinator.address, ledger)) as gate:
            yield gate, ledger
    finally:
        coordinator.kill()


@pytest.fixture
def worker(gate: tuple[HoldingProxy, Ledger], database: Database, tmp_path: Path) -> Iterator[RestartableWorker]:
    with database.write() as session:
        token = create_token(session, "ada", "test")
    worker = RestartableWorker(tmp_path, gate[0].url, token, write_script())
    yield worker
    if worker.popen.poll() is None:
        worker.kill()


@pytest.mark.timeout(900)
def test_a_worker_that_is_killed_in_each_phase_loses_nothing(
    worker: RestartableWorker, gate: tuple[HoldingProxy, Ledger], database: Database
) -> None:
    proxy, ledger = gate

    for phase in ("starting", "training", "scoring"):
        worker.start()
        worker.wait_for_phase(phase)
        worker.kill()
    assert worker.list_outbox() == [] and not ledger.sent

    held = proxy.hold("result", answered=False)  # the seed is measured, and the result does not arrive
    worker.start()
    worker.wait_for(held.is_set)
    worker.kill()
    assert len(worker.list_outbox()) == 1 and not ledger.sent

    held = proxy.hold("proposal", answered=True)  # what waited is delivered; an experiment is drafted and accepted
    worker.start()
    worker.wait_for(held.is_set)
    worker.kill()
    assert worker.list_outbox() == [] and len(ledger.acknowledged) == 1

    held = proxy.hold("result", answered=True)  # the result is stored, and its answer is lost
    worker.start()
    worker.wait_for(held.is_set)
    worker.kill()
    assert len(worker.list_outbox()) == 1 and len(ledger.acknowledged) == 2

    worker.start("--max-jobs", "1")  # delivered again, and on with the next idea
    assert worker.popen.wait(TIMEOUT_SECONDS) == 0, worker.read_log()
    assert worker.list_outbox() == [] and len(ledger.acknowledged) == 3
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
