"""Questions about topics: what was tried along an axis, and what came of it."""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, case, func, select
from sqlalchemy.orm import Session

from coordinator.models import Citation, CommitPosterior, Experiment, Finding
from shared.experiments import Verdict
from shared.findings import FindingState


class TopicRow(NamedTuple):
    """A topic, with the counts of its experiments by what came of them; `axis` is as one of them wrote it."""

    topic: str
    axis: str
    experiments: int
    improved: int
    no_change: int
    worse: int
    unresolved: int
    failed: int
    newest_id: int
    newest_at: datetime


class EffectRow(NamedTuple):
    """An experiment's posterior in one hardware class, with its finding."""

    experiment: Experiment
    finding: Finding
    posterior: CommitPosterior


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _topics() -> Select[*tuple[Any, ...]]:
    own = and_(
        CommitPosterior.commit_sha == Experiment.commit_sha, CommitPosterior.hardware_class == Finding.hardware_class
    )
    verdict = CommitPosterior.verdict
    return (
        select(
            Experiment.topic,
            func.min(Experiment.axis),
            func.count(),
            _count(verdict == Verdict.IMPROVED),
            _count(verdict == Verdict.NO_CHANGE),
            _count(verdict == Verdict.WORSE),
            _count(verdict == Verdict.UNRESOLVED),
            _count(Finding.failure.is_not(None)),
            func.max(Experiment.id),
            func.max(Experiment.created_at),
        )
        .join(Finding, Finding.experiment_id == Experiment.id)
        .outerjoin(CommitPosterior, own)
        .group_by(Experiment.topic)
    )


def list_topics(session: Session, project_id: int, before_id: int | None, limit: int) -> list[TopicRow]:
    """Topics of a project, that of the newest experiment first; `before_id` is the newest of the one before."""
    newest = func.max(Experiment.id)
    chosen = select(Experiment.topic).where(Experiment.project_id == project_id).group_by(Experiment.topic)
    if before_id is not None:
        chosen = chosen.having(newest < before_id)
    names = session.scalars(chosen.order_by(newest.desc()).limit(limit)).all()
    query = _topics().where(Experiment.project_id == project_id, Experiment.topic.in_(names))
    return [TopicRow(*row) for row in session.execute(query.order_by(newest.desc()))]


def find_topic(session: Session, project_id: int, topic: str) -> TopicRow | None:
    query = _topics().where(Experiment.project_id == project_id, Experiment.topic == topic)
    row = session.execute(query).one_or_none()
    return TopicRow(*row) if row else None


def list_effects(session: Session, project_id: int, topic: str, limit: int) -> list[EffectRow]:
    """The newest effects along a topic in all hardware classes, retracted findings' left out."""
    query = (
        select(Experiment, Finding, CommitPosterior)
        .join(Finding, Finding.experiment_id == Experiment.id)
        .join(CommitPosterior, CommitPosterior.commit_sha == Experiment.commit_sha)
        .where(Experiment.project_id == project_id, Experiment.topic == topic)
        .where(CommitPosterior.effect_mean.is_not(None), Finding.state == FindingState.PUBLISHED)
    )
    rows = session.execute(query.order_by(Experiment.id.desc(), CommitPosterior.hardware_class).limit(limit))
    return [EffectRow(*row) for row in rows]


def list_finding_ids(session: Session, project_id: int, topic: str, limit: int) -> list[int]:
    """The newest findings of a topic."""
    query = (
        select(Finding.id)
        .join(Experiment, Experiment.id == Finding.experiment_id)
        .where(Experiment.project_id == project_id, Experiment.topic == topic)
        .where(Finding.state == FindingState.PUBLISHED)
    )
    return list(session.scalars(query.order_by(Experiment.id.desc()).limit(limit)))


def list_open_follow_ups(session: Session, project_id: int, topic: str, limit: int) -> list[Finding]:
    """The newest findings of a topic that propose something, and from which nobody went on along this topic.

    Somebody did if an experiment on the topic started from their commit, or read them.
    """
    later = Experiment.__table__.alias("later")
    own = and_(later.c.project_id == project_id, later.c.topic == topic)
    built_on = select(later.c.id).where(own, later.c.parent_sha == Experiment.commit_sha).exists()
    read = (
        select(later.c.id)
        .join(Citation, Citation.experiment_id == later.c.id)
        .where(own, Citation.finding_id == Finding.id)
        .exists()
    )
    query = (
        select(Finding)
        .join(Experiment, Experiment.id == Finding.experiment_id)
        .where(Experiment.project_id == project_id, Experiment.topic == topic, Finding.follow_ups != "")
        .where(Finding.state == FindingState.PUBLISHED, ~built_on, ~read)
    )
    return list(session.scalars(query.order_by(Finding.id.desc()).limit(limit)))
