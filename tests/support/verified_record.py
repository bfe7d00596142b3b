"""A project with a record: `ada`'s commit, verified by anchors of other volunteers."""

from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.models import Run, Volunteer, Worker
from coordinator.projects.service import create_project
from shared.experiments import JobKind
from shared.leases import GrantedLease
from tests.support.messages import make_proposal
from tests.support.seeds import write_seed
from tests.support.swarm_data import History
from tests.support.tokens import create_token
from tests.support.volunteers import MiniWorker

ANCHORS = ("bo", "cy", "dan", "eve")


class VerifiedRecord:
    """The commit `sha` on the seed `root`; all offsets are nil. `mallory` is nobody's friend but ada's."""

    kind: JobKind

    def __init__(self, database: Database, http: TestClient, folder: Path, more_contract: str = "") -> None:
        self.database, self.http = database, http
        seed = write_seed(folder / "seed")
        contract = seed / "swarm.toml"
        contract.write_text(contract.read_text() + more_contract)
        with database.write() as session:
            history = History(session, create_project(session, seed)[0])
            self.root = history.project.root_sha
            workers = {
                name: history.add_worker("w1", name, is_anchor=name in ANCHORS) for name in ("ada", "mallory", *ANCHORS)
            }
            for worker in workers.values():
                for metric in (3.301, 3.300, 3.302):
                    history.measure(worker, self.root, metric)
            self.sha = history.add_experiment(workers["ada"], self.root, 3.2, make_proposal("better")).commit_sha
            for name in ANCHORS[:3]:
                history.measure(workers[name], self.sha, 3.2)
            self.workers = {name: MiniWorker(http, create_token(session, name, "t"), "w1") for name in workers}

    def claim(self, name: str, **changes: Any) -> GrantedLease:
        """The volunteer's next job of the kind; other jobs are given back."""
        for _ in range(12):
            lease = self.workers[name].claim_job(**changes)
            if lease.kind is self.kind:
                return lease
            self.workers[name].release(lease)
        raise AssertionError(f"{name} gets no {self.kind} job")

    def set_trust(self, trust: str, runs: int = 1) -> None:
        """The trust in the worker of the newest runs, as it was when they came."""
        with self.database.write() as session:
            for run in session.scalars(select(Run).order_by(Run.id.desc()).limit(runs)):
                run.trust = trust


def find_worker(session: Session, volunteer: str) -> Worker:
    query = select(Worker).join(Volunteer, Volunteer.id == Worker.volunteer_id)
    return session.scalars(query.where(Volunteer.name == volunteer)).one()
