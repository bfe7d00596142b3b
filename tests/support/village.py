"""A village of volunteers who measure by the services: trust, standings and what is due, without leases."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta

from sqlalchemy import select

from coordinator.db.database import Database
from coordinator.evidence import epochs, quarantine
from coordinator.evidence.explanation import explain
from coordinator.evidence.trust import list_due
from coordinator.models import CommitPosterior, Project, TrustRecord, Volunteer, Worker
from coordinator.workers.lookup import WorkerRow
from shared.protocol import now, use_clock
from shared.records import ExperimentEvidence
from tests.support.messages import HARDWARE, make_proposal
from tests.support.swarm_data import History

CLASS = HARDWARE.hardware_class
VOLUNTEERS = ("ada", "bo", "cy", "dan")


class Village:
    """Volunteers with a worker each; all of them measured the seed, and all offsets are nil."""

    def __init__(self, database: Database, volunteers: Sequence[str] = VOLUNTEERS) -> None:
        self.database = database
        self.author: dict[str, str] = {}
        self.began = now()
        for name in volunteers:
            self.measure(name, None, 3.3)

    def _open(self, session: object, name: str) -> tuple[History, Worker]:
        history = History(session, session.scalars(select(Project)).one())  # type: ignore[attr-defined,arg-type]
        return history, history.add_worker("w1", name)

    def make_anchor(self, name: str) -> None:
        with self.database.write() as session:
            quarantine.set_anchor(session, name, "w1", is_anchor=True, who="maintainer")

    def let_vouched_verify(self, *, may: bool = True) -> None:
        with self.database.write() as session:
            project = session.scalars(select(Project)).one()
            project.contract = project.contract.replace("\nvouched_verify = true", "")
            if may:
                project.contract = project.contract.replace("[evidence]", "[evidence]\nvouched_verify = true")
            session.flush()
            epochs.recompute(session)

    def at(self, hours: float) -> AbstractContextManager[None]:
        """The coordinator's clock so many hours after the village began."""
        return use_clock(lambda: self.began + timedelta(hours=hours))

    def measure(
        self, name: str, sha: str | None, metric: float | None, pace: float = 1.0, seed_throughput: float | None = None,
        **changes: object,
    ) -> str:  # fmt: skip
        """A volunteer measures a commit, or the seed; returns what its worker was worth then."""
        with self.database.write() as session:
            history, worker = self._open(session, name)
            history.pace, history.seed_throughput = pace, seed_throughput
            return history.measure(worker, sha or history.project.root_sha, metric, **changes).trust

    def invent(self, name: str, metric: float, parent: str | None = None) -> str:
        """A volunteer's experiment; returns its commit."""
        with self.database.write() as session:
            history, worker = self._open(session, name)
            sha = history.add_experiment(worker, parent or history.project.root_sha, metric, make_proposal()).commit_sha
            self.author[sha] = name
            return sha

    def record(self, name: str) -> tuple[int, int]:
        """A volunteer's agreements and contradictions."""
        with self.database.read() as session:
            query = select(TrustRecord).join(Volunteer, Volunteer.id == TrustRecord.volunteer_id)
            row = session.scalar(query.where(Volunteer.name == name))
            return (row.agreements, row.contradictions) if row else (0, 0)

    def posterior(self, sha: str) -> CommitPosterior:
        with self.database.read() as session:
            return session.get_one(CommitPosterior, (sha, CLASS))

    def explain(self, sha: str) -> ExperimentEvidence:
        with self.database.read() as session:
            return explain(session, session.scalars(select(Project)).one(), 0, sha, CLASS)

    def list_due(self, name: str) -> list[str]:
        with self.database.read() as session:
            project_id = session.scalars(select(Project.id)).one()
            worker = session.scalars(select(Worker).join(Volunteer).where(Volunteer.name == name)).one()
            row = WorkerRow._make(getattr(worker, name) for name in WorkerRow._fields)
            return list_due(session, project_id, CLASS, row, is_anchor=worker.is_anchor)

    def check_numbers(self) -> None:
        with self.database.read() as session:
            assert list(epochs.find_differences(session)) == []
