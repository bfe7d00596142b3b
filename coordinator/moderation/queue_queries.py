"""Queries for the things that wait for moderators: each kind is one query along an index, of limited length."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.db.engine import LabelledRow
from coordinator.models import (
    Branch,
    Calibration,
    Citation,
    CommitPosterior,
    EvidenceEpoch,
    Experiment,
    Finding,
    FindingReport,
    HeldDecision,
    Lease,
    Project,
    QueueMark,
    Run,
    Volunteer,
    Worker,
)
from coordinator.models.accounts import IS_PENDING, IS_WORKER_STOPPED
from coordinator.models.base import is_of_commit
from coordinator.models.evidence import IS_DISPUTED, IS_FAILING, IS_HELD
from coordinator.models.findings import IS_SHOWN
from coordinator.models.lineage import IS_PROPOSED
from shared.experiments import Dispute, Standing
from shared.protocol import now

MAX_OF_A_KIND, SHOWN_REPORTS, NEWEST_RESULTS = 100, 20, 200
CONTRADICTIONS_LAST, REPORTS_LAST, FAILURES_LAST = timedelta(days=30), timedelta(days=90), timedelta(days=7)
"""Ages after which what nobody did anything about is left out, so that the queue does not grow for ever."""


def _commits() -> Any:
    """A query for commits that wait in a hardware class: columns of posterior and experiment, `project`, `author`, and
    the number of experiments that build on it, `children`."""
    child = Experiment.__table__.alias("child")
    children = select(func.count(child.c.id)).where(child.c.parent_sha == Experiment.commit_sha).scalar_subquery()
    posterior = CommitPosterior
    return (
        select(
            posterior.commit_sha, posterior.hardware_class, posterior.effect_mean, posterior.effect_sd,
            posterior.dispute, posterior.runs, Experiment.id, Experiment.title, Experiment.created_at,
            Project.name.label("project"), Volunteer.name.label("author"), children.label("children"),
        )
        .select_from(posterior)
        .join(Experiment, Experiment.commit_sha == CommitPosterior.commit_sha)
        .join(Project, Project.id == CommitPosterior.project_id)
        .join(Worker, Worker.id == Experiment.worker_id)
        .join(Volunteer, Volunteer.id == Worker.volunteer_id)
        .limit(MAX_OF_A_KIND)
    )  # fmt: skip


def list_held(session: Session) -> Sequence[LabelledRow]:
    """Results that are held and have no decision, those that changed longest ago first."""
    has_decision = select(HeldDecision.commit_sha).where(
        is_of_commit(HeldDecision, CommitPosterior.commit_sha, CommitPosterior.hardware_class)
    )
    query = _commits().where(IS_HELD, ~has_decision.exists())
    return session.execute(query.order_by(CommitPosterior.updated_at)).all()


def list_disputed(session: Session) -> Sequence[LabelledRow]:
    """Commits whose runs contradict each other, the latest first; not those that a maintainer decides upon anyway."""
    is_open = CommitPosterior.standing.not_in((Standing.HELD, Standing.REJECTED))
    is_recent = CommitPosterior.updated_at >= now() - CONTRADICTIONS_LAST
    query = _commits().where(IS_DISPUTED, is_open, is_recent)
    return session.execute(query.order_by(CommitPosterior.updated_at.desc())).all()


def list_noisy(session: Session) -> list[tuple[EvidenceEpoch, Project, int]]:
    """Classes whose noise jumped, with the jobs under way in them."""
    under_way = (
        select(func.count(Lease.id))
        .where(Lease.project_id == EvidenceEpoch.project_id, Lease.is_live_at(now()))
        .where(Lease.hardware_class == EvidenceEpoch.hardware_class)
        .scalar_subquery()
    )
    query = select(EvidenceEpoch, Project, under_way).join(Project, Project.id == EvidenceEpoch.project_id)
    rows = session.execute(query.where(EvidenceEpoch.disputed_noise_sd.is_not(None)).limit(MAX_OF_A_KIND))
    return [(epoch, project, jobs) for epoch, project, jobs in rows]


def list_pending(session: Session) -> Sequence[Volunteer]:
    """Accounts that wait for approval, and are not suspended."""
    is_open = IS_PENDING, Volunteer.suspension.is_(None)
    return session.scalars(select(Volunteer).where(*is_open).order_by(Volunteer.created_at).limit(MAX_OF_A_KIND)).all()


def list_proposed(session: Session) -> list[tuple[Branch, str, str | None]]:
    """Branches that wait for approval, with their project and the account that named them, unless that is stopped."""
    query = (
        select(Branch, Project.name, Volunteer.name)
        .join(Project, Project.id == Branch.project_id)
        .outerjoin(Volunteer, Volunteer.id == Branch.volunteer_id)
        .where(IS_PROPOSED, Volunteer.suspension.is_(None), Volunteer.quarantine.is_(None))
    )
    rows = session.execute(query.order_by(Branch.created_at).limit(MAX_OF_A_KIND))
    return [(branch, project, author) for branch, project, author in rows]


def list_reported(session: Session) -> Sequence[LabelledRow]:
    """Findings that readers reported and that still show: `finding_id`, `project`, `author`, the number of `reports`,
    `newest_id` and `first_at` of them, and `citations`."""
    reports = (
        select(
            FindingReport.finding_id,
            func.count().label("reports"),
            func.max(FindingReport.id).label("newest_id"),
            func.min(FindingReport.created_at).label("first_at"),
        )
        .where(FindingReport.created_at >= now() - REPORTS_LAST)
        .group_by(FindingReport.finding_id)
        .subquery()
    )
    citations = select(func.count(Citation.experiment_id)).where(Citation.finding_id == Finding.id).scalar_subquery()
    query = (
        select(
            *(reports.c.finding_id, Project.name.label("project"), Volunteer.name.label("author")),
            *(reports.c.reports, reports.c.newest_id, reports.c.first_at, citations.label("citations")),
        )
        .select_from(reports)
        .join(Finding, Finding.id == reports.c.finding_id)
        .join(Project, Project.id == Finding.project_id)
        .join(Experiment, Experiment.id == Finding.experiment_id)
        .join(Worker, Worker.id == Experiment.worker_id)
        .join(Volunteer, Volunteer.id == Worker.volunteer_id)
        .where(IS_SHOWN)
        .order_by(reports.c.newest_id)
        .limit(MAX_OF_A_KIND)
    )
    return session.execute(query).all()


def list_failing(session: Session) -> list[tuple[Calibration, Worker, str, str]]:
    """Workers whose last runs in a class failed, lately, with their account and the project."""
    query = (
        select(Calibration, Worker, Volunteer.name, Project.name)
        .join(Worker, Worker.id == Calibration.worker_id)
        .join(Volunteer, Volunteer.id == Worker.volunteer_id)
        .join(Project, Project.id == Calibration.project_id)
        .where(IS_FAILING, ~IS_WORKER_STOPPED, Calibration.updated_at >= now() - FAILURES_LAST)
    )
    rows = session.execute(query.order_by(Calibration.updated_at.desc()).limit(MAX_OF_A_KIND))
    return [(calibration, worker, volunteer, project) for calibration, worker, volunteer, project in rows]


def find_last_run(session: Session, project_id: int, worker_id: int) -> Run | None:
    """A worker's newest run in a project."""
    query = select(Run).where(Run.worker_id == worker_id, Run.project_id == project_id)
    return session.scalar(query.order_by(Run.id.desc()).limit(1))


def count_results(session: Session, volunteer_id: int) -> LabelledRow:
    """The fates of an account's newest `experiments`, at most NEWEST_RESULTS: those `held`, those `disputed` because
    their runs contradict each other, and those `checked` by others, too."""
    own = select(Worker.id).where(Worker.volunteer_id == volunteer_id)
    newest = (
        select(Experiment.commit_sha)
        .where(Experiment.worker_id.in_(own))
        .order_by(Experiment.id.desc())
        .limit(NEWEST_RESULTS)
        .subquery()
    )
    posterior = CommitPosterior
    query = select(
        func.count(newest.c.commit_sha.distinct()).label("experiments"),
        func.count().filter(posterior.standing == Standing.HELD).label("held"),
        func.count().filter(posterior.dispute != Dispute.NONE).label("disputed"),
        func.count().filter(posterior.checkers >= 1).label("checked"),
    ).outerjoin_from(newest, posterior, posterior.commit_sha == newest.c.commit_sha)
    return session.execute(query).one()


def list_reports(session: Session, finding_id: int) -> list[tuple[FindingReport, str | None]]:
    """The newest reports of a finding, with their accounts."""
    query = (
        select(FindingReport, Volunteer.name)
        .outerjoin(Volunteer, Volunteer.id == FindingReport.volunteer_id)
        .where(FindingReport.finding_id == finding_id)
    )
    rows = session.execute(query.order_by(FindingReport.id.desc()).limit(SHOWN_REPORTS))
    return [(report, name) for report, name in rows]


def map_marks(session: Session, names: Sequence[str]) -> dict[str, QueueMark]:
    """The marks of things, by their name."""
    marks = session.scalars(select(QueueMark).where(QueueMark.item.in_(names)))
    return {mark.item: mark for mark in marks}
