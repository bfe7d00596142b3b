"""A record whose gain was made up is run on the rung by a real worker, in real sandboxes, and does not hold there."""

from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.db.database import Database
from coordinator.projects import service as projects
from swarm import Client
from tests.acceptance.conftest import open_swarm
from tests.support.databases import SqliteFolder
from tests.support.messages import make_proposal
from tests.support.swarm_data import History
from tests.support.tiny_project import pack_text, write_codec_seed
from tests.support.tokens import create_token
from worker.machine.hardware import detect_machine

pytestmark = pytest.mark.acceptance

RUNG = '\n[[rungs]]\nname = "patient"\ntraining_seconds = 90\n'


def test_a_worker_runs_record_and_seed_on_the_rung_in_a_row(
    text_server: str, sqlite_folder: SqliteFolder, tmp_path: Path
) -> None:
    seed = write_codec_seed(tmp_path / "seed", text_server, pack_text())
    contract = seed / "swarm.toml"
    contract.write_text(contract.read_text().replace("[jobs]\n", "[jobs]\npromote = 1000\n") + RUNG)
    url, here = sqlite_folder.create_migrated(tmp_path), detect_machine("cpu", 1).hardware
    with open_swarm(seed, url, tmp_path) as volunteer:
        database = Database(url)
        with database.write() as session:
            history = History(session, projects.get_project(session, "codec"))
            workers = {
                name: history.add_worker("w1-cpu", name, is_anchor=name != "ada") for name in ("ada", "bo", "cy")
            }
            for worker in workers.values():
                for metric in (4.0, 4.001, 3.999):
                    history.measure(worker, history.project.root_sha, metric, hardware=here)
            made_id = history.add_experiment(
                workers["ada"], history.project.root_sha, 3.0, make_proposal("nothing at all"), hardware=here
            ).id
            sha = history.find_sha(made_id)
            for name in ("bo", "cy"):
                history.measure(workers[name], sha, 3.0, hardware=here)
            bo = replace(volunteer, token=create_token(session, "bo", "t"))
        database.close()
        done = bo.work("--name", "w1", jobs=5)
        with Client(volunteer.url) as client:
            (record,) = client.list_records("codec")
            runs = client.get_experiment(made_id).runs
    assert record.record is not None and record.record.sha == sha
    assert record.record.promotions, done.stderr
    (promotion,) = record.record.promotions
    assert promotion.pairs >= 1 and promotion.is_provisional, "all by one volunteer"
    assert promotion.effect_mean == pytest.approx(0.0, abs=0.1), "it is the same code"
    assert promotion.transfer_ratio == pytest.approx(0.0, abs=0.1)
    assert promotion.classes_held == 0 and promotion.classes_measured == 1
    on_rung = [run for run in runs if run.rung == "patient"]
    assert on_rung and all(run.outcome == "ok" and run.kind == "promote" for run in on_rung)
    assert done.stderr.count("rung=patient") >= 2 and "on patient" in done.stdout
