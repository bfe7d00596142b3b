"""While the coordinator is away a worker continues alone, is killed, and delivers everything once.

Real processes on seed/codec, as in test_killed_workers.py; only the waits are short, by the worker's settings.
"""

import signal
from pathlib import Path

import pytest

from coordinator.admin.integrity import find_problems
from coordinator.db.database import Database
from coordinator.models import Experiment
from coordinator.projects.service import create_project
from tests.support.coordinator_process import Coordinator
from tests.support.ledger import Ledger
from tests.support.proxy import HoldingProxy, serve_proxy
from tests.support.tiny_project import pack_text, write_codec_seed
from tests.support.tokens import create_token
from tests.support.worker_process import TIMEOUT_SECONDS, RestartableWorker

pytestmark = pytest.mark.acceptance

SHORT_WAITS = {
    "SWARM_ALONE_AFTER_SECONDS": "0",
    "SWARM_SHORTEST_WAIT_SECONDS": "0.5",
    "SWARM_LONGEST_WAIT_SECONDS": "2",
}


@pytest.mark.timeout(600)
def test_a_worker_goes_on_alone_and_delivers_everything_once_parents_first(
    database: Database, text_server: str, tmp_path: Path
) -> None:
    ledger = Ledger()
    with database.write() as session:
        create_project(session, write_codec_seed(tmp_path / "seed", text_server, pack_text()))
        token = create_token(session, "ada", "test")
    coordinator = Coordinator(database.url.render_as_string(), tmp_path)
    with serve_proxy(HoldingProxy(coordinator.address, ledger)) as gate:
        worker = RestartableWorker(tmp_path, gate.url, token, **SHORT_WAITS)
        try:
            live_through_an_absence(worker, coordinator, ledger)
        finally:
            if worker.popen.poll() is None:
                worker.kill()
            coordinator.kill()

    ledger.check(database)
    with database.read() as session:
        experiments = session.query(Experiment).order_by(Experiment.id).all()
        ids = {experiment.commit_sha: experiment.id for experiment in experiments}
        assert len([e for e in experiments if "went on by itself" in e.why]) >= 3
        assert all(ids.get(e.parent_sha, 0) < e.id for e in experiments)
        assert list(find_problems(session, lambda what, done, total: None)) == []


def live_through_an_absence(worker: RestartableWorker, coordinator: Coordinator, ledger: Ledger) -> None:
    worker.start("--max-jobs", "2")  # the seed, and one experiment
    assert worker.popen.wait(TIMEOUT_SECONDS) == 0, worker.read_log()
    assert len(ledger.acknowledged) == 2

    coordinator.kill()
    worker.start()  # the coordinator is away when it starts, too
    worker.wait_for(lambda: len(worker.list_outbox()) >= 2)
    worker.kill()
    kept = len(worker.list_outbox())
    assert "working offline" in worker.read_log() and kept >= 2

    worker.start()
    worker.wait_for(lambda: len(worker.list_outbox()) > kept)

    coordinator.start()
    worker.wait_for(lambda: len(ledger.acknowledged) > 2 + kept and not worker.list_outbox())
    worker.popen.send_signal(signal.SIGTERM)
    assert worker.popen.wait(TIMEOUT_SECONDS) == 0, worker.read_log()
    assert worker.list_outbox() == []
    assert "the coordinator is back" in worker.read_log()
