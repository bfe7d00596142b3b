"""Questions about one week of a project. Ids are bounded by the week, so its cost is not that of all its history."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, Table, and_, func, insert, or_, select, update
from sqlalchemy.orm import Session

from coordinator.models import (
    Citation,
    CommitPosterior,
    Experiment,
    Finding,
    LeaderChange,
    Project,
    Run,
    StoredDigest,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.models.evidence import IS_DISPUTED
from coordinator.models.experiments import MEASURED
from coordinator.models.findings import IS_SHOWN
from shared.experiments import Standing, Verdict
from shared.runs import RunOutcome

_EXPERIMENTS, _RUNS, _POSTERIORS = table_of(Experiment), table_of(Run), table_of(CommitPosterior)
_FINDINGS, _CITATIONS, _CHANGES = table_of(Finding), table_of(Citation), table_of(LeaderChange)
_WORKERS, _VOLUNTEERS, _DIGESTS = table_of(Worker), table_of(Volunteer), table_of(StoredDigest)

ID_SLACK = 1_000
"""Ids before and after a week's that are looked at, too: ids are given a little before or after their rows' times."""

_IN_QUARANTINE = or_(_VOLUNTEERS.c.quarantine.is_not(None), _WORKERS.c.quarantine.is_not(None))
ESTABLISHED = Standing.VERIFIED, Standing.CORROBORATED
_REFUTED = Verdict.WORSE, Verdict.NO_CHANGE


class Span(NamedTuple):
    """A project's week: from `start` up to, and without, `end`. `sign` is 1 where a lower metric is better."""

    project_id: int
    start: datetime
    end: datetime
    sign: float


class Counts(NamedTuple):
    """A volunteer's work."""

    experiments: int = 0
    improved: int = 0
    runs: int = 0
    checks: int = 0


def list_claims(session: Session, span: Span, kind: Any, order: Any, limit: int) -> tuple[list[dict[str, Any]], int]:
    """Experiments for which `kind` holds, with their posterior, and the number of all of them."""
    tables = MEASURED.join(_WORKERS, _WORKERS.c.id == _EXPERIMENTS.c.worker_id).join(
        _VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id
    )
    query = select(
        _EXPERIMENTS.c.id.label("experiment_id"), _EXPERIMENTS.c.title, _VOLUNTEERS.c.name.label("volunteer"),
        _POSTERIORS.c.hardware_class, _EXPERIMENTS.c.predicted_effect, _POSTERIORS.c.effect_mean,
        _POSTERIORS.c.effect_sd, _POSTERIORS.c.verdict, _POSTERIORS.c.standing,
        func.count().over().label("in_all"),
    ).select_from(tables)  # fmt: skip
    query = query.where(_EXPERIMENTS.c.project_id == span.project_id, ~_IN_QUARANTINE, kind)
    rows = [dict(row) for row in session.execute(query.order_by(order, _EXPERIMENTS.c.id).limit(limit)).mappings()]
    in_all = rows[0]["in_all"] if rows else 0
    for row in rows:
        del row["in_all"]
    return rows, in_all


def is_milestone(session: Session, span: Span) -> Any:
    """That an experiment of the week is better than its parent, and others found so, too."""
    return and_(
        in_week(session, _EXPERIMENTS, span),
        _POSTERIORS.c.verdict == Verdict.IMPROVED,
        _POSTERIORS.c.standing.in_(ESTABLISHED),
    )


def is_refuted(session: Session, span: Span) -> Any:
    """That an experiment of the week was predicted to be better, and is not, as others found, too."""
    return and_(
        in_week(session, _EXPERIMENTS, span),
        _POSTERIORS.c.verdict.in_(_REFUTED),
        _POSTERIORS.c.standing.in_(ESTABLISHED),
        _EXPERIMENTS.c.predicted_effect * span.sign < 0,
    )


def is_contradicted(span: Span) -> Any:
    """That an experiment's runs contradict each other, since a run of the week."""
    changed = _POSTERIORS.c.updated_at
    return and_(IS_DISPUTED, changed >= span.start, changed < span.end)


def by_effect(span: Span) -> Any:
    """The largest gain first."""
    return _POSTERIORS.c.effect_mean * span.sign


def by_prediction(span: Span) -> Any:
    """The largest predicted gain first."""
    return _EXPERIMENTS.c.predicted_effect * span.sign


def count_verdicts(session: Session, span: Span) -> Counter[str]:
    """The week's experiments by their current verdict; `failed` without a metric, `unresolved` without a verdict."""
    query = (
        select(_RUNS.c.outcome, _POSTERIORS.c.verdict, func.count())
        .select_from(MEASURED)
        .where(in_week(session, _EXPERIMENTS, span))
        .group_by(_RUNS.c.outcome, _POSTERIORS.c.verdict)
    )
    counted = Counter[str]()
    for outcome, verdict, count in session.execute(query):
        is_failed = outcome != RunOutcome.OK or verdict == Verdict.INVALID
        counted["failed" if is_failed else verdict or Verdict.UNRESOLVED] += count
    return counted


def count_runs(session: Session, span: Span) -> int:
    """All runs of the week."""
    return session.scalar(select(func.count()).select_from(_RUNS).where(in_week(session, _RUNS, span))) or 0


def list_leaders(session: Session, span: Span, limit: int) -> list[dict[str, Any]]:
    """Commits that came to lead in the week, oldest first; the newest `limit` of them. The root has no experiment."""
    tables = (
        _CHANGES.outerjoin(_EXPERIMENTS, _EXPERIMENTS.c.commit_sha == _CHANGES.c.commit_sha)
        .outerjoin(_WORKERS, _WORKERS.c.id == _EXPERIMENTS.c.worker_id)
        .outerjoin(_VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id)
    )
    query = select(
        _CHANGES.c.hardware_class, _CHANGES.c.is_record, _CHANGES.c.commit_sha.label("sha"),
        _EXPERIMENTS.c.id.label("experiment_id"), func.coalesce(_EXPERIMENTS.c.title, "").label("title"),
        func.coalesce(_VOLUNTEERS.c.name, "").label("volunteer"), _CHANGES.c.metric_mean, _CHANGES.c.metric_sd,
        _CHANGES.c.changed_at,
    ).select_from(tables)  # fmt: skip
    changed = _CHANGES.c.changed_at
    query = query.where(_CHANGES.c.project_id == span.project_id, changed >= span.start, changed < span.end)
    query = query.where(or_(_EXPERIMENTS.c.id.is_(None), ~_IN_QUARANTINE))
    rows = session.execute(query.order_by(_CHANGES.c.id.desc()).limit(limit)).mappings()
    return [dict(row) for row in rows][::-1]


def list_open_questions(session: Session, span: Span, limit: int) -> tuple[list[int], int]:
    """The findings of the week whose follow-ups nobody tried: no experiment on the topic started from their commit or
    read them. The newest `limit` of them, and the number of all."""
    later = _EXPERIMENTS.alias("later")
    own = and_(later.c.project_id == _EXPERIMENTS.c.project_id, later.c.topic == _EXPERIMENTS.c.topic)
    built_on = select(later.c.id).where(own, later.c.parent_sha == _EXPERIMENTS.c.commit_sha).exists()
    was_read = select(later.c.id).join(_CITATIONS, _CITATIONS.c.experiment_id == later.c.id)
    is_tried = or_(built_on, was_read.where(own, _CITATIONS.c.finding_id == _FINDINGS.c.id).exists())
    query = (
        select(_FINDINGS.c.id, func.count().over())
        .join(_EXPERIMENTS, _EXPERIMENTS.c.id == _FINDINGS.c.experiment_id)
        .where(in_week(session, _FINDINGS, span), _FINDINGS.c.follow_ups != "", IS_SHOWN, ~is_tried)
    )
    rows = session.execute(query.order_by(_FINDINGS.c.id.desc()).limit(limit)).all()
    return [row[0] for row in rows], rows[0][1] if rows else 0


def count_work(session: Session, span: Span) -> dict[str, Counts]:
    """The week's work by volunteer, without those in quarantine."""
    counted = defaultdict[str, Counts](Counts)
    made = _of_people(
        select(_VOLUNTEERS.c.name, func.count(), func.count().filter(_POSTERIORS.c.verdict == Verdict.IMPROVED)),
        MEASURED, _EXPERIMENTS,
    )  # fmt: skip
    for name, experiments, improved in session.execute(made.where(in_week(session, _EXPERIMENTS, span))):
        counted[name] = Counts(experiments, improved)
    ran = _of_people(select(_VOLUNTEERS.c.name, func.count(), func.count().filter(_RUNS.c.is_check)), _RUNS, _RUNS)
    for name, runs, checks in session.execute(ran.where(in_week(session, _RUNS, span))):
        counted[name] = counted[name]._replace(runs=runs, checks=checks)
    return dict(counted)


def _of_people(query: Select[Any], tables: Any, of: Table) -> Select[Any]:
    joined = tables.join(_WORKERS, _WORKERS.c.id == of.c.worker_id)
    joined = joined.join(_VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id)
    return query.select_from(joined).where(~_IN_QUARANTINE).group_by(_VOLUNTEERS.c.name)


def in_week(session: Session, table: Table, span: Span) -> Any:
    """The condition that a row of a table with ids in the order of time is the project's, and of the week."""
    first, last = _find_id(session, table, span.start) - ID_SLACK, _find_id(session, table, span.end) + ID_SLACK
    made = table.c.created_at
    return and_(
        table.c.project_id == span.project_id, table.c.id >= first, table.c.id < last,
        made >= span.start, made < span.end,
    )  # fmt: skip


def _find_id(session: Session, table: Table, moment: datetime) -> int:
    """The first id from a moment on, by bisection of the primary key; one above the last where there is none."""
    low, high = 0, (session.scalar(select(func.max(table.c.id))) or 0) + 1
    while low < high:
        middle = (low + high) // 2
        query = select(table.c.id, table.c.created_at).where(table.c.id >= middle).order_by(table.c.id).limit(1)
        row = session.execute(query).first()
        if row is None or row.created_at >= moment:
            high = middle
        else:
            low = row.id + 1
    return low


def list_stopped(session: Session, experiment_ids: Iterable[int]) -> set[int]:
    """Those of some experiments whose author is in quarantine."""
    query = select(_EXPERIMENTS.c.id).select_from(
        _EXPERIMENTS.join(_WORKERS, _WORKERS.c.id == _EXPERIMENTS.c.worker_id).join(
            _VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id
        )
    )
    return set(session.scalars(query.where(_EXPERIMENTS.c.id.in_(list(experiment_ids)), _IN_QUARANTINE)))


def list_shown(session: Session, finding_ids: Sequence[int]) -> set[int]:
    """Those of some findings that are neither hidden nor retracted."""
    return set(session.scalars(select(_FINDINGS.c.id).where(_FINDINGS.c.id.in_(finding_ids), IS_SHOWN)))


def list_quarantined(session: Session, names: Sequence[str]) -> set[str]:
    """Those of some accounts that are in quarantine."""
    query = select(_VOLUNTEERS.c.name).where(_VOLUNTEERS.c.name.in_(names), _VOLUNTEERS.c.quarantine.is_not(None))
    return set(session.scalars(query))


def find_digest(session: Session, project_id: int, week: str) -> StoredDigest | None:
    return session.get(StoredDigest, (project_id, week))


def find_newest(session: Session, project_id: int, moment: datetime) -> StoredDigest | None:
    """The newest week's digest of those that were made before a moment."""
    query = select(StoredDigest).where(StoredDigest.project_id == project_id, StoredDigest.made_at <= moment)
    return session.scalar(query.order_by(StoredDigest.week.desc()).limit(1))


def list_digests(session: Session, project_id: int, limit: int) -> Sequence[StoredDigest]:
    """The newest weeks with runs, newest first."""
    query = select(StoredDigest).where(StoredDigest.project_id == project_id, StoredDigest.runs > 0)
    return session.scalars(query.order_by(StoredDigest.week.desc()).limit(limit)).all()


def store(session: Session, project: Project, week: str, columns: dict[str, Any]) -> None:
    """Add a digest, or replace it."""
    is_it = and_(_DIGESTS.c.project_id == project.id, _DIGESTS.c.week == week)
    done = session.execute(update(_DIGESTS).where(is_it).values(**columns))
    if not done.rowcount:  # type: ignore[attr-defined]
        session.execute(insert(_DIGESTS), {"project_id": project.id, "week": week} | columns)
