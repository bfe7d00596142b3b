"""Facts, runs and texts that a moderator looks at before deciding about a thing in the queue."""

from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.evidence.run_stats import list_runs_of_commit
from coordinator.findings.papers import view_words
from coordinator.models import Calibration, Experiment, Run, TrustRecord, Volunteer, Worker
from coordinator.moderation import queue_queries
from coordinator.projects.service import get_project
from shared.formatting import count_noun
from shared.moderation import QueueItem, QueueKind

MAX_RUNS = 20


class Fact(NamedTuple):
    """A line of evidence, with the address of the page that has more."""

    name: str
    text: str
    address: str = ""


class Measured(NamedTuple):
    """A run of the commit, by `volunteer/worker`."""

    run_id: int
    worker: str
    outcome: str
    metric: float | None
    counts: bool
    is_in_class: bool


class QueueEvidence(NamedTuple):
    """The evidence on a thing: facts, runs of its commit, and words of people or programs."""

    facts: list[Fact]
    runs: list[Measured]
    texts: list[tuple[str, str]]


def view_evidence(session: Session, item: QueueItem) -> QueueEvidence:
    """The evidence on a thing."""
    key = item.name.partition(":")[2]
    facts = [Fact("What it is", item.detail, item.address)]
    runs: list[Measured] = []
    texts: list[tuple[str, str]] = []
    if item.kind in (QueueKind.HELD, QueueKind.CONTRADICTION):
        project, sha, hardware_class = key.split("/", 2)
        facts.append(Fact("Commit", sha[:12], f"/projects/{project}/commits/{sha}"))
        runs = _list_runs(session, sha, hardware_class)
    elif item.kind == QueueKind.REPORT:
        facts += _view_finding(session, int(key))
        texts = [
            (f"Report by {name or 'a reader'}", report.text)
            for report, name in queue_queries.list_reports(session, int(key))
        ]
    elif item.kind == QueueKind.WORKER and item.project is not None:
        texts = _view_failure(session, get_project(session, item.project).id, int(key.rpartition("/")[2]))
    if item.author is not None:
        facts += _view_author(session, item.author.partition("/")[0])
    return QueueEvidence(facts, runs, texts)


def _list_runs(session: Session, sha: str, hardware_class: str) -> list[Measured]:
    return [
        Measured(
            run.id, worker, run.outcome, run.metric, run.counts,
            run.hardware_class == hardware_class,
        )
        for run, worker in list_runs_of_commit(session, sha)[:MAX_RUNS]
    ]  # fmt: skip


def _view_finding(session: Session, finding_id: int) -> list[Fact]:
    finding = view_words(session, finding_id, with_hidden=True)
    words = [("Mechanism", finding.mechanism), ("Caveats", finding.caveats), ("Follow-ups", finding.follow_ups)]
    return [Fact(name, text) for name, text in words if text]


def _view_failure(session: Session, project_id: int, worker_id: int) -> list[tuple[str, str]]:
    """The reason and the end of the log of a worker's last run."""
    run: Run | None = queue_queries.find_last_run(session, project_id, worker_id)
    if run is None:
        return []
    return [(f"Run {run.id}: {run.outcome}", "\n".join(part for part in (run.reason, run.log_tail) if part))]


def _view_author(session: Session, name: str) -> list[Fact]:
    """An account's record: since when, how much, and how its measurements agreed with others'."""
    account = session.scalars(select(Volunteer).where(Volunteer.name == name)).one()
    record = select(func.sum(TrustRecord.agreements), func.sum(TrustRecord.contradictions))
    agreements, contradictions = session.execute(record.where(TrustRecord.volunteer_id == account.id)).one()
    jobs = session.scalar(select(func.sum(Calibration.jobs_done)).where(Calibration.volunteer_id == account.id)) or 0
    workers = session.scalar(select(func.count(Worker.id)).where(Worker.volunteer_id == account.id)) or 0
    own = select(Experiment.id).join(Worker, Worker.id == Experiment.worker_id).where(Worker.volunteer_id == account.id)
    newest = session.scalar(own.order_by(Experiment.id.desc()).limit(1))
    contradicted = count_noun(int(contradictions or 0), "contradiction")
    contradicted += ", the last of which began the count anew" if contradictions else ""
    facts = [
        Fact("Author", f"{name}, {account.role}, since {account.created_at:%Y-%m-%d}", f"/admin/accounts/{name}"),
        Fact("Its work", f"{count_noun(int(jobs), 'job')} by {count_noun(workers, 'worker')}"),
        Fact("Its record", f"{count_noun(int(agreements or 0), 'agreement')} with others, {contradicted}"),
    ]  # fmt: skip
    results = queue_queries.count_results(session, account.id)
    if results.experiments:
        fates = f"{results.held} held, {results.disputed} contradicted, {results.checked} measured by others, too"
        facts.append(Fact("Its newest experiments", f"Of {results.experiments}: {fates}"))
    if newest is not None:
        facts.append(Fact("Its last one", f"#{newest}", f"/experiments/{newest}"))
    return facts
