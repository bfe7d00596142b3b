"""A record whose gain was made up is run on the rung by a real worker, in real sandboxes, and does not hold there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from coordinator.db.database import Database
from coordinator.projects import service as projects
from swarm import Client
from tests.acceptance.conftest import open_swarm
from tests.support.databases import SqliteFolder
from tests.support.messages import make_proposal
from tests.support.swarm_data import History
from tests.support.tiny_project import pack_text, write_codec_seed, write_tiny_seed
from tests.support.tokens import create_token
from worker.machine.hardware import detect_machine

pytestmark = pytest.mark.acceptance

RUNG = '\n[[rungs]]\nname = "patient"\ntraining_seconds = {}\n'


class Case(NamedTuple):
    """A project, the budget of its rung, what its seed is said to measure, and how much better a commit."""

    project: str
    write_seed: Callable[[Path, str, bytes], Path]
    rung_seconds: int
    level: float
    gain: float
    jobs: int


@pytest.mark.parametrize(
    "case",
    [
        Case("codec", write_codec_seed, 90, 4.0, 1.0, jobs=5),
        pytest.param(Case("gpt-cpu", write_tiny_seed, 3, 0.5, 0.2, jobs=7), marks=pytest.mark.large),
    ],
    ids=lambda case: case.project,
)
def test_a_worker_runs_record_and_seed_on_the_rung_in_a_row(
    text_server: str, sqlite_folder: SqliteFolder, tmp_path: Path, case: Case
) -> None:
    """`pytest -m large tests/acceptance/test_promotion.py` trains gpt-cpu's model on a rung of three CPU seconds."""
    seed = case.write_seed(tmp_path / "seed", text_server, pack_text())
    contract, better = seed / "swarm.toml", case.level - case.gain
    changed = contract.read_text().replace("[jobs]\n", "[jobs]\npromote = 1000\n")
    contract.write_text(changed + RUNG.format(case.rung_seconds))
    url, here = sqlite_folder.create_migrated(tmp_path), detect_machine("cpu", 1).hardware
    with open_swarm(seed, url, tmp_path) as volunteer:
        database = Database(url)
        with database.write() as session:
            history = History(session, projects.get_project(session, case.project))
            workers = {
                name: history.add_worker("w1-cpu", name, is_anchor=name != "ada") for name in ("ada", "bo", "cy")
            }
            for worker in workers.values():
                for metric in (case.level, case.level + 0.001, case.level - 0.001):
                    history.measure(worker, history.project.root_sha, metric, hardware=here)
            made_id = history.add_experiment(
                workers["ada"], history.project.root_sha, better, make_proposal("nothing at all"), hardware=here
            ).id
            sha = history.find_sha(made_id)
            for name in ("bo", "cy"):
                history.measure(workers[name], sha, better, hardware=here)
            bo = replace(volunteer, token=create_token(session, "bo", "t"))
        database.close()
        done = bo.work("--name", "w1", jobs=case.jobs, seconds=800)
        with Client(volunteer.url) as client:
            (record,) = client.list_records(case.project)
            runs = client.get_experiment(made_id).runs
    assert record.record is not None and record.record.sha == sha
    assert record.record.promotions, done.stderr
    (promotion,) = record.record.promotions
    assert promotion.pairs >= 1, done.stderr
    assert promotion.is_provisional, "all by one volunteer"
    assert promotion.effect_mean == pytest.approx(0.0, abs=0.1), "it is the same code"
    assert promotion.transfer_ratio == pytest.approx(0.0, abs=0.1)
    assert promotion.classes_held == 0 and promotion.classes_measured == 1
    on_rung = [run for run in runs if run.rung == "patient"]
    assert on_rung and all(run.outcome == "ok" and run.kind == "promote" for run in on_rung)
    assert done.stderr.count("rung=patient") >= 2 and "on patient" in done.stdout
