"""The jobs that anchors get: the runs of an anchor are counted for each commit that it may be asked to measure."""

import pytest
from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.evidence import confirmations
from coordinator.models import Project, Worker
from coordinator.selection.service import ChosenJob, choose_job
from coordinator.workers.lookup import WorkerRow
from tests.support.messages import claim_request
from tests.support.swarm_data import end_epochs
from tests.support.village import Village

ANCHOR, CHECKERS = "dan", ("bo", "cy", "eve", "fay")
AWAY = 48
"""An hour at which the anchor has not been at work for a day."""


@pytest.fixture
def village(project: str, database: Database, monkeypatch: pytest.MonkeyPatch) -> Village:
    """A village with an anchor that measured the seed, and somebody whom it contradicted. Nothing waits
    to be confirmed."""
    monkeypatch.setattr(confirmations, "find_job", lambda *_: None)
    with database.write() as session:
        session.scalars(select(Project)).one().contract += "\n[jobs]\ncombine = 0\n"
    village = Village(database)
    village.make_anchor(ANCHOR)
    village.measure(ANCHOR, None, 3.3)
    for _ in range(2):
        village.measure(ANCHOR, village.invent("mal", 3.0), 3.3)
    return village


def ask_anchor(village: Village) -> str:
    """The commit of the job that the anchor gets next."""
    with village.database.read() as session:
        worker = session.scalars(select(Worker).where(Worker.is_anchor)).one()
        row = WorkerRow._make(getattr(worker, name) for name in WorkerRow._fields)
        project = session.scalars(select(Project)).one()
        chosen = choose_job(session, project, worker.volunteer_id, row, claim_request())
    assert isinstance(chosen, ChosenJob)
    return chosen.decision.base_sha


def make_suspects(village: Village) -> list[str]:
    """Commits that lead, and that an anchor measures last."""
    suspects = [village.invent("mal", 3.1) for _ in range(4)]
    assert {village.posterior(sha).standing for sha in suspects} == {"suspect"}
    return suspects


def test_an_anchor_is_not_asked_again_for_what_stands_behind_those_it_takes_last(village: Village) -> None:
    suspects, honest = make_suspects(village), [village.invent("ada", 3.28), village.invent("ada", 3.285)]
    for sha in honest:
        assert ask_anchor(village) == sha
        village.measure(ANCHOR, sha, 3.3)
    assert ask_anchor(village) in suspects


def test_an_anchor_measures_what_a_gain_is_counted_from_as_often_as_the_gain(
    village: Village, database: Database
) -> None:
    """That is the last verified commit above it, though others lead it, and one beside it is better."""
    base, beside = village.invent("ada", 3.26), village.invent("ada", 3.25)
    for sha, metric in ((base, 3.26), (beside, 3.25)):
        for name in CHECKERS:
            village.measure(name, sha, metric)
        village.measure(ANCHOR, sha, metric)
        assert village.posterior(sha).standing == "verified"
    end_epochs(database, always=True)
    with village.at(AWAY):
        make_suspects(village)
        leader = village.invent("ada", 3.24, base)
        for name in CHECKERS:
            village.measure(name, leader, 3.242)
        assert village.posterior(leader).standing == "corroborated"
        asked: list[str] = []
        while village.posterior(leader).standing == "corroborated" and len(asked) < 11:
            asked.append(ask_anchor(village))
            village.measure(ANCHOR, asked[-1], 3.244 if asked[-1] == leader else 3.26)
    assert asked == [leader, leader, base, leader, base]
    assert village.posterior(leader).standing == "verified"
