"""A model of leases and results beside the application: the rows that must exist after any requests.

Of each lease it knows what the pure transitions (`coordinator/leases/state.py`) make of it, and of each result whether
it was acknowledged. `check` compares, and looks for docs/architecture.md's promises in the database's own rows.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.leases import state
from coordinator.leases.claim import MAX_LEASES_PER_WORKER
from coordinator.leases.service import HELD_WITHIN
from coordinator.leases.state import LIVE, LeaseClock
from coordinator.models import Commit, Experiment, Finding, Run
from coordinator.models import Lease as LeaseRow
from shared.contract import Budget
from shared.leases import GrantedLease, LeaseState, ResultUpload
from tests.support.clock import Clock
from tests.support.volunteers import MiniWorker


@dataclass
class Job:
    """A lease. `text` is the code that it reserves; `upload` and `reply` are its acknowledged result."""

    worker: MiniWorker
    lease: GrantedLease
    clock: LeaseClock
    text: str | None = None
    upload: ResultUpload | None = None
    reply: Any = None

    @property
    def is_open(self) -> bool:
        """Live, or expired without that anybody wrote it down."""
        return self.clock.state in LIVE


class Model:
    """One project. `commits` maps sha -> text of the edited file."""

    def __init__(self, clock: Clock, budget: Budget, root_sha: str, root_text: str) -> None:
        self._clock = clock
        self._budget = budget
        self.jobs: list[Job] = []
        self.commits = {root_sha: root_text}

    def expires_at(self, job: Job) -> datetime:
        return state.expires_at(job.clock, self._budget)

    def is_live(self, job: Job) -> bool:
        return job.is_open and self.expires_at(job) > self._clock.moment

    def list_jobs(self, worker: MiniWorker) -> list[Job]:
        return [job for job in self.jobs if job.worker is worker]

    def is_taken(self, text: str) -> bool:
        """Whether a commit has these files, or a live lease is about to run them."""
        return text in self.commits.values() or any(self.is_live(job) and job.text == text for job in self.jobs)

    def note_claim(self, worker: MiniWorker, held: list[Job]) -> bool:
        """The worker holds these and no others. Returns whether it may have another job."""
        self._write_down_expiry(self.list_jobs(worker))
        for job in self.list_jobs(worker):
            if job.is_open and job not in held:
                self.note_release(job)
        return sum(job.is_open for job in self.list_jobs(worker)) < MAX_LEASES_PER_WORKER

    def note_grant(self, worker: MiniWorker, lease: GrantedLease) -> None:
        begun = state.begin(lease.kind.makes_experiment, self._budget, self._clock.moment)
        self.jobs.append(Job(worker, lease, begun))

    def note_beat(self, job: Job, after: LeaseClock) -> None:
        """A beat that may wait to be written is forgotten if the clock went back: what is stored is newer."""
        may_wait = after.phase is job.clock.phase and self.expires_at(job) - self._clock.moment > HELD_WITHIN
        if not may_wait or after.heartbeat_at > job.clock.heartbeat_at:
            job.clock = after

    def note_proposal(self, job: Job, text: str) -> None:
        self._write_down_expiry(other for other in self.jobs if other.text == text)
        job.clock, job.text = state.accept_proposal(job.clock, self._clock.moment), text

    def note_refusal(self, job: Job) -> None:
        """The proposal was turned down."""
        job.clock = state.try_draft_again(job.clock, self._clock.moment)

    def note_release(self, job: Job) -> None:
        job.clock = state.release(job.clock, self._clock.moment)

    def note_result(self, job: Job, upload: ResultUpload, reply: Any) -> None:
        job.upload, job.reply = upload, reply
        job.clock = state.finish(job.clock, self._clock.moment)
        if upload.commit is not None:
            (self.commits[upload.commit.sha],) = upload.commit.files.values()

    def _write_down_expiry(self, jobs: Iterable[Job]) -> None:
        """Something of these was given away because they have expired: that is final, wherever the clock goes."""
        for job in jobs:
            if job.is_open and not self.is_live(job):
                job.clock = state.expire(job.clock)

    def check(self, session: Session, project_id: int) -> None:
        self._check_results(session, project_id)
        rows = session.scalars(select(LeaseRow).where(LeaseRow.project_id == project_id)).all()
        self._check_promises([row for row in rows if row.state in LIVE and row.expires_at > self._clock.moment])
        self._check_leases({row.id: row for row in rows})

    def _check_results(self, session: Session, project_id: int) -> None:
        """Each acknowledged result is stored once, and nothing else is."""
        runs = session.scalars(select(Run.uuid).where(Run.project_id == project_id)).all()
        assert Counter(runs) == Counter(job.upload.run.id for job in self.jobs if job.upload is not None)
        commits = select(Commit.sha, Experiment.id, Finding.id, Commit.parent_sha)
        commits = commits.outerjoin(Experiment, Experiment.commit_sha == Commit.sha)
        commits = commits.outerjoin(Finding, Finding.experiment_id == Experiment.id)
        rows = session.execute(commits.where(Commit.project_id == project_id)).all()
        assert sorted(row[0] for row in rows) == sorted(self.commits)
        for _, experiment, finding, parent in rows:
            assert (experiment is None, finding is None) == (parent is None,) * 2, "only the root has neither"

    def _check_promises(self, live: list[LeaseRow]) -> None:
        """By the rows alone: no job is held twice, and no worker holds too many."""
        held = Counter(row.worker_id for row in live)
        assert max(held.values(), default=0) <= MAX_LEASES_PER_WORKER, "a worker holds too many"
        trees = [row.proposed_tree_sha for row in live if row.proposed_tree_sha is not None]
        assert len(trees) == len(set(trees)), "two live leases run the same code"

    def _check_leases(self, rows: dict[UUID, LeaseRow]) -> None:
        """An ended lease stays ended, because the model's transitions have no way back."""
        assert rows.keys() == {job.lease.id for job in self.jobs}
        for job in self.jobs:
            row = rows[job.lease.id]
            assert LeaseState(row.state) is job.clock.state
            assert row.result_key == (job.upload.run.id if job.upload else None)
            assert not job.is_open or row.expires_at == self.expires_at(job)
