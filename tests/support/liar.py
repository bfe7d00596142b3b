"""A swarm with a liar, of any size: honest volunteers, and one whose results do not repeat and whose papers brag.

From the command line it fills a database: python -m tests.support.liar sqlite:////tmp/swarm.db 5000 40
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.accounts.service import find_or_add_volunteer
from coordinator.db.database import Database
from coordinator.db.migrate import upgrade
from coordinator.models import Finding, FindingReport, Project, Volunteer
from coordinator.projects.service import create_project
from shared.findings import FindingDraft
from shared.protocol import now
from tests.support.messages import HARDWARE, make_proposal
from tests.support.seeds import write_seed
from tests.support.swarm_data import History, crash, end_epochs

LIAR = "mallory"
BRAG = "A miracle of the learning rate"
MACHINE = HARDWARE.model_copy(update={"cores": 4})
"""That of all of them: a hardware class of their own, whatever the swarm has beside them."""

AT_ONCE = 500
"""Experiments in one transaction."""


class LiarsSwarm(NamedTuple):
    """The liar's held commit, and the ids of all its papers."""

    held_sha: str
    papers: list[int]


def write_swarm_with_liar(database: Database, project_id: int, honest: int = 20, papers: int = 40) -> LiarsSwarm:
    """Write `honest` experiments of honest volunteers, and `papers` of the liar's, one of which is held.

    Others measured some of the liar's commits and found nothing; a newcomer, a proposal and a report wait, too.
    """
    for start in range(0, honest, AT_ONCE):
        with database.write() as session:
            _write_honest(History(session, session.get_one(Project, project_id), start + 1, MACHINE), start, honest)
    with database.write() as session:
        history = History(session, session.get_one(Project, project_id), hardware=MACHINE)
        held_sha, ids = _write_lies(history, papers)
    end_epochs(database, always=True)
    with database.write() as session:
        _write_others(session, ids)
        return LiarsSwarm(held_sha, ids)


def _write_honest(history: History, start: int, honest: int) -> None:
    root = history.project.root_sha
    workers = [history.add_worker("gpu-0", name) for name in ("ada", "grace", "linus")]
    if start == 0:
        for worker in workers:
            for metric in (3.297, 3.3, 3.303):
                history.measure(worker, root, metric)
    for number in range(start, min(honest, start + AT_ONCE)):
        worker = workers[number % len(workers)]
        metric = 3.3 + history.random.gauss(0.003, 0.005)
        value = f"{history.random.uniform(0.001, 0.9):.4g}"
        proposal = make_proposal(f"Weight decay {value}").model_copy(update={"axis": "WEIGHT_DECAY", "value": value})
        history.add_experiment(worker, root, metric, proposal)


def _write_lies(history: History, papers: int) -> tuple[str, list[int]]:
    """The liar's commits: gains that nobody finds again, and one that is too good to be believed."""
    root, liar = history.project.root_sha, history.add_worker("m1", LIAR)
    checkers = [history.add_worker("gpu-0", name, is_anchor=name == "ada") for name in ("ada", "grace", "linus")]
    ids: list[int] = []
    held_sha = ""
    for number in range(papers):
        brag = FindingDraft(claim=f"{BRAG}, number {number}", mechanism="Trust me.", agent="search")
        metric = 0.3 if number == 0 else 3.2
        experiment = history.add_experiment(liar, root, metric, make_proposal(f"{BRAG} {number}"), brag)
        held_sha = held_sha or experiment.commit_sha
        if 0 < number < 4:
            for checker in checkers:
                history.measure(checker, experiment.commit_sha, 3.3 + 0.001 * number)
        ids += [row for (row,) in history.session.query(Finding.id).filter_by(experiment_id=experiment.id)]
    broken = history.add_worker("old-laptop", "heron")
    for _ in range(4):
        history.add_experiment(broken, root, None, make_proposal("Deeper"), **crash())
    return held_sha, ids


def _write_others(session: Session, ids: list[int]) -> None:
    session.add(Volunteer(name="newcomer", role="volunteer", is_pending=True, created_at=now()))
    reader = find_or_add_volunteer(session, "reader")
    report = FindingReport(
        finding_id=ids[1], volunteer_id=reader.id, address_sha256="1" * 64, text="I cannot repeat it.", created_at=now()
    )
    session.add(report)
    session.flush()


def main(url: str, honest: int, papers: int) -> None:
    """Fill a database."""
    database = Database(url)
    upgrade(database)
    with TemporaryDirectory() as folder, database.write() as session:
        project_id = create_project(session, write_seed(Path(folder) / "seed"))[0].id
    write_swarm_with_liar(database, project_id, honest, papers)
    database.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
