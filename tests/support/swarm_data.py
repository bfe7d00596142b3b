"""A project's history, written through the services: as workers would leave it, without the workers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from sqlalchemy.orm import Session

from coordinator.accounts.service import authenticate
from coordinator.db.database import Database
from coordinator.events import service as events
from coordinator.evidence import renewal
from coordinator.evidence import service as evidence
from coordinator.evidence.epochs import RunOrigin
from coordinator.evidence.service import StoredRun
from coordinator.experiments import service as experiments
from coordinator.experiments.lookup import find_experiment_by_commit
from coordinator.findings import service as findings
from coordinator.findings.service import FindingOrigin
from coordinator.leases import state
from coordinator.lineage import service as lineage
from coordinator.lineage.branches import list_branches
from coordinator.lineage.commits import get_commit
from coordinator.models import Branch, Experiment, Lease, Project, Run, Worker
from coordinator.projects import service as projects
from coordinator.projects.service import create_project
from coordinator.workers import service as workers
from coordinator.workers.lookup import WorkerRow
from shared.commits import CommitWords
from shared.events import EventKind
from shared.experiments import Assignment, JobKind, Proposal, StepFate
from shared.findings import FindingDraft
from shared.leases import LeaseState, Phase
from shared.protocol import now, use_clock
from shared.runs import CurvePoint, Hardware, RunOutcome, RunReport
from tests.support.messages import AUTHOR, HARDWARE, make_proposal, make_run
from tests.support.seeds import TRAIN, write_seed
from tests.support.tokens import create_token

HOSTILE_TITLE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1> <b>bold</b> & 100 %{x}"
RTL_TITLE = "מגדילים את קצב הלמידה \u202eflipped 🐝🧪 LEARNING_RATE"
UNBROKEN_TITLE = "W" * 200
HOSTILE_MARKDOWN = (
    "**Bold**, `code` and <script>window.hacked=1</script> <img src=x onerror=window.hacked=1>\n\n"
    "[a link](https://example.org/paper) [not one](javascript:window.hacked=1) ![pixel](https://example.org/pixel.png)"
)


class History:
    """Writes one project's past, one step after the other; `random` makes it the same each time."""

    def __init__(self, session: Session, project: Project, seed: int = 1, hardware: Hardware = HARDWARE) -> None:
        self.session = session
        self.project = project
        self.hardware = hardware
        self.contract = projects.contract_of(project)
        self.random = Random(seed)
        self.pace = 1.0
        self.seed_throughput: float | None = None

    def add_worker(self, name: str = "w1", volunteer: str = "ada", *, is_anchor: bool = False) -> WorkerRow:
        """A worker that is registered; once an anchor, it stays one."""
        token = create_token(self.session, volunteer, "test")
        worker = workers.register_worker(self.session, authenticate(self.session, token), name, "search", self.hardware)
        if is_anchor:
            self.session.get_one(Worker, worker.id).is_anchor = True
            self.session.flush()
        return worker

    def add_lease(self, worker: WorkerRow, base_sha: str, kind: JobKind = JobKind.IMPROVE, **changes: Any) -> Lease:
        """A lease that has just been claimed."""
        moment = now()
        clock = state.begin(kind.makes_experiment, self.contract.budget, moment)
        fields: dict[str, Any] = {
            "state": clock.state,
            "phase": clock.phase,
            "expires_at": state.expires_at(clock, self.contract.budget),
        }
        lease = Lease(
            id=uuid4(),
            project_id=self.project.id,
            worker_id=worker.id,
            branch_id=list_branches(self.session, self.project.id)[0].id,
            hardware_class=worker.hardware_class,
            kind=kind,
            base_sha=base_sha,
            seed=self.random.randrange(1000),
            why="Drawn by Thompson sampling among 12 commits of the frontier.",
            token_sha256="0" * 64,
            issued_at=moment,
            phase_started_at=moment,
            heartbeat_at=moment,
            progressed_at=moment,
            deadline_at=clock.deadline_at,
            **(fields | changes),
        )
        self.session.add(lease)
        self.session.flush()
        events.record(self.session, EventKind.LEASE_CLAIMED, self.project.id, lease=str(lease.id))
        return lease

    def add_running_lease(self, worker: WorkerRow, base_sha: str, title: str, share: float = 0.4) -> Lease:
        """A lease whose proposal was accepted and which trains."""
        proposal = make_proposal(title).model_dump(mode="json")
        progress: dict[str, Any] = {
            "state": LeaseState.RUNNING,
            "phase": Phase.TRAINING,
            "share": share,
            "step": 310,
            "loss": 2.481,
        }
        return self.add_lease(worker, base_sha, proposal=proposal, **progress)

    def measure(
        self, worker: WorkerRow, sha: str, metric: float | None, kind: JobKind = JobKind.REPLICATE, **changes: Any
    ) -> Run:
        """A run of an existing commit, or of the root."""
        lease = self.add_lease(worker, sha, kind, state=LeaseState.DONE)
        experiment = find_experiment_by_commit(self.session, sha)
        _, stored = self._add_run(lease, worker, sha, metric, experiment.id if experiment else None, **changes)
        return self.session.get_one(Run, stored.id)

    def find_sha(self, experiment_id: int) -> str:
        return self.session.get_one(Experiment, experiment_id).commit_sha

    def add_experiment(
        self,
        worker: WorkerRow,
        parent_sha: str,
        metric: float | None,
        proposal: Proposal,
        finding: FindingDraft | None = None,
        edit: Callable[[str], str] = lambda text: f"{text}# {uuid4()}\n",
        kind: JobKind = JobKind.IMPROVE,
        assignment: Assignment | None = None,
        **changes: Any,
    ) -> Experiment:
        """An experiment with its commit, finding and first run. No metric: it crashed. `edit` changes the file."""
        asked = assignment and assignment.model_dump(mode="json")
        lease = self.add_lease(worker, parent_sha, kind, state=LeaseState.DONE, assignment=asked)
        parent = get_commit(self.session, parent_sha)
        path = self.contract.files.editable[0]
        text = lineage.read_files(self.session, self.project.id, parent_sha)[path]
        words = CommitWords(AUTHOR, 1_790_000_000, proposal.title)
        built = lineage.build_child(self.session, parent, {path: edit(text)}, words)
        done = [step for step in proposal.steps if step.fate is StepFate.DONE]
        steps = max(1, len(done)) if kind in (JobKind.ADOPT, JobKind.COMBINE) else 1
        lineage.store_commit(self.session, self.project.id, built, steps=steps)
        experiment_id = experiments.store_experiment(
            self.session, self.project.id, built.sha, parent_sha, lease.id, worker.id, lease.branch_id,
            kind, lease.why, proposal, now(),
        )  # fmt: skip
        self.session.get_one(Branch, lease.branch_id).experiments += 1
        draft = finding or FindingDraft(claim="One run; see the numbers.", agent="search")
        report, stored = self._add_run(lease, worker, built.sha, metric, experiment_id, **changes)
        pace = evidence.measure_pace(self.session, parent_sha, worker.id, report)
        origin = FindingOrigin(self.project.id, experiment_id, proposal, report, stored.posterior, pace)
        findings.store_finding(self.session, origin, draft)
        return self.session.get_one(Experiment, experiment_id)

    def _add_run(
        self, lease: Lease, worker: WorkerRow, sha: str, metric: float | None, experiment_id: int | None, **changes: Any
    ) -> tuple[RunReport, StoredRun]:
        report = make_run(sha, metric, **({"curve": self._curve(metric), "hardware": self.hardware} | changes))
        self.session.flush()
        origin = RunOrigin(self.project.id, worker.id, lease.id, JobKind(lease.kind), experiment_id)
        origin = replace(origin, pace=self.pace, seed_throughput=self.seed_throughput)
        stored = evidence.store_run(self.session, self.contract, origin, report)
        lease.result_key = report.id
        events.record(
            self.session, EventKind.RUN_STORED, self.project.id, run=stored.id, experiment=experiment_id,
            outcome=report.outcome, metric=metric,
        )  # fmt: skip
        return report, stored

    def _curve(self, metric: float | None) -> list[CurvePoint]:
        end = (metric or 4.0) * 0.69
        return [
            CurvePoint(step=i * 10, seconds=i * 0.5, loss=end + 3.2 * 0.88**i + self.random.gauss(0, 0.02))
            for i in range(40 if metric else 12)
        ]


def write_history(session: Session, project: Project, count: int = 60) -> History:
    """About `count` varied experiments: improvements, failures, replications, hostile text, live leases."""
    history = History(session, project)
    workers = [history.add_worker("w1"), history.add_worker("gpu-cellar", "grace-with-a-rather-long-name")]
    for metric in (3.301, 3.308, 3.299):
        history.measure(workers[0], project.root_sha, metric)
    axes = ["LEARNING_RATE", "DEPTH", "WEIGHT_DECAY", "WARMUP_STEPS", "MLP_RATIO"]
    titles = {7: HOSTILE_TITLE, 19: RTL_TITLE, 33: UNBROKEN_TITLE}
    best_sha, best = project.root_sha, 3.303
    for number in range(1, count + 1):
        axis = history.random.choice(axes)
        value = f"{history.random.uniform(0.001, 0.9):.4g}"
        proposal = make_proposal(titles.get(number, f"{axis} → {value}")).model_copy(
            update={"axis": axis, "value": value}
        )
        worker = history.random.choice(workers)
        metric = best + history.random.gauss(0.006, 0.018)
        finding = None
        changes: dict[str, Any] = {}
        if number % 11 == 0:
            metric_or_none, changes = None, crash()
        elif number % 17 == 0:
            metric_or_none = metric + 1.8
        else:
            metric_or_none = metric
        if number in titles:
            proposal = proposal.model_copy(update={"hypothesis": HOSTILE_MARKDOWN, "axis": titles[number]})
            finding = FindingDraft(
                claim=HOSTILE_TITLE[:200], mechanism=HOSTILE_MARKDOWN, caveats=RTL_TITLE, agent="<i>agent</i>"
            )
        experiment = history.add_experiment(worker, best_sha, metric_or_none, proposal, finding, **changes)
        if metric_or_none is not None and metric_or_none < best - 0.008:
            best_sha, best = experiment.commit_sha, metric_or_none
            if number > 20:
                history.measure(workers[1], best_sha, best + history.random.gauss(0, 0.005))
    history.add_running_lease(workers[0], best_sha, "WEIGHT_DECAY 0.1 → 0.05, with a longer warm-up", 0.62)
    history.add_lease(workers[1], project.root_sha)
    history.add_lease(workers[1], best_sha, JobKind.REPLICATE)
    return history


@dataclass(frozen=True)
class EarlierHistory:
    """A small project with `write_history`, an hour ago, so that no lease of it ends while tests run.

    `others` are projects without a history; `train` is the edited file of all.
    """

    count: int
    others: tuple[str, ...] = ()
    train: str = TRAIN

    def __call__(self, database: Database) -> None:
        with use_clock(lambda: datetime.now(UTC) - timedelta(hours=1)), database.write() as session:
            write_history(session, self._create(session, "tiny"), self.count)
            for name in self.others:
                self._create(session, name)

    def _create(self, session: Session, name: str) -> Project:
        with TemporaryDirectory() as folder:
            seed = write_seed(Path(folder), name)
            (seed / "train.py").write_text(self.train)
            return create_project(session, seed)[0]


def crash() -> dict[str, Any]:
    """The report of a crashed run, with hostile output."""
    return {
        "outcome": RunOutcome.CRASHED,
        "reason": "RuntimeError: mat1 and mat2 shapes cannot be multiplied (2048x96 and 128x384)",
        "frame": "train.py:118 in forward\n    return self.down(gelu(self.up(x)))",
        "log_tail": f"step 10 loss 5.1\nTraceback (most recent call last):\n{HOSTILE_TITLE}\n{'x' * 300}\n",
    }


def end_epochs(database: Database, *, always: bool = False) -> int:
    """Begin a new epoch in each class where enough runs came since the last, or `always`; returns in how many."""
    count = renewal.end_due_epochs(database, always=always)
    renewal.follow_decisions(database, inf)
    return count
