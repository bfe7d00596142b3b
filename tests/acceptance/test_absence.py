"""The coordinator is away for long: a worker's process goes on alone, is killed on the way, and all is delivered once.

Real processes on seed/codec, as in test_killed_workers.py; only the waits are short, by the worker's settings.
"""

import signal
from pathlib import Path

import pytest

from coordinator.accounts.service import create_token
from coordinator.admin.integrity import find_problems
from coordinator.db.database import Database
from coordinator.models import Experiment
from coordinator.projects.service import create_project
from tests.acceptance.test_killed_workers import PATIENCE_SECONDS, Laboratory
from tests.support.coordinator_process import Coordinator
from tests.support.databases import SqliteFolder
from tests.support.ledger import Ledger
from tests.support.proxy import Gate, serve_proxy
from tests.support.tiny_project import PACKAGE, pack_text, serve_folder, write_codec_seed

pytestmark = pytest.mark.acceptance

SHORT_WAITS = {
    "SWARM_ALONE_AFTER_SECONDS": "0",
    "SWARM_SHORTEST_WAIT_SECONDS": "0.5",
    "SWARM_LONGEST_WAIT_SECONDS": "2",
}


@pytest.mark.timeout(600)
def test_a_worker_goes_on_alone_and_delivers_everything_once_parents_first(
    sqlite_folder: SqliteFolder, tmp_path: Path
) -> None:
    database, ledger = Database(sqlite_folder.create_migrated(tmp_path)), Ledger()
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / PACKAGE).write_bytes(pack_text())
    with serve_folder(tmp_path / "web") as address:
        with database.write() as session:
            create_project(session, write_codec_seed(tmp_path / "seed", address, pack_text()))
            token = create_token(session, "ada", "test")
        coordinator = Coordinator(database.url.render_as_string(), tmp_path)
        with serve_proxy(Gate(coordinator.address, ledger)) as gate:
            laboratory = Laboratory(tmp_path, gate.url, token, script="", **SHORT_WAITS)
            try:
                live_through_an_absence(laboratory, coordinator, ledger)
            finally:
                if laboratory.popen.poll() is None:
                    laboratory.kill()
                coordinator.kill()

    ledger.check(database)
    with database.read() as session:
        experiments = session.query(Experiment).order_by(Experiment.id).all()
        ids = {experiment.commit_sha: experiment.id for experiment in experiments}
        assert len([e for e in experiments if "went on by itself" in e.why]) >= 3
        assert all(ids.get(e.parent_sha, 0) < e.id for e in experiments)
        assert list(find_problems(session, lambda what, done, total: None)) == []
    database.close()


def live_through_an_absence(laboratory: Laboratory, coordinator: Coordinator, ledger: Ledger) -> None:
    laboratory.start("--max-jobs", "2")  # the seed, and one experiment
    assert laboratory.popen.wait(PATIENCE_SECONDS) == 0, laboratory.said()
    assert len(ledger.acknowledged) == 2

    coordinator.kill()
    laboratory.start()  # the coordinator is away when it starts, too
    laboratory.wait_for(lambda: len(laboratory.list_outbox()) >= 2)
    laboratory.kill()
    kept = len(laboratory.list_outbox())
    assert "going on alone" in laboratory.said() and kept >= 2

    laboratory.start()
    laboratory.wait_for(lambda: len(laboratory.list_outbox()) > kept)

    coordinator.start()
    laboratory.wait_for(lambda: len(ledger.acknowledged) > 2 + kept and not laboratory.list_outbox())
    laboratory.popen.send_signal(signal.SIGTERM)
    assert laboratory.popen.wait(PATIENCE_SECONDS) == 0, laboratory.said()
    assert laboratory.list_outbox() == []
    assert "the coordinator is back" in laboratory.said()
