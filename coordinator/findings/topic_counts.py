"""Counts of topics: kept as runs come, brought together with the experiments that are not counted yet.

How many experiments a topic has follows its classes' progress; their verdicts change with all evidence, so those are
counted again in turn, one topic at a time.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, insert, or_, select, true, update
from sqlalchemy.orm import Session

from coordinator.db.engine import batches
from coordinator.models import (
    ClassProgress,
    CommitPosterior,
    EvidenceEpoch,
    Experiment,
    Finding,
    Run,
    TopicCount,
    table_of,
)
from coordinator.models.base import is_of_class, is_of_commit, is_of_same_class
from coordinator.models.evidence import HOLDS_AGAIN, IS_MEASURED_AGAIN
from shared.experiments import JobKind, Verdict
from shared.protocol import now

_EXPERIMENTS, _FINDINGS, _POSTERIORS = table_of(Experiment), table_of(Finding), table_of(CommitPosterior)
_RUNS, _EPOCHS, _CLASSES, _COUNTS = (
    table_of(Run),
    table_of(EvidenceEpoch),
    table_of(ClassProgress),
    table_of(TopicCount),
)
_VERDICTS = {
    "improved": Verdict.IMPROVED, "no_change": Verdict.NO_CHANGE, "worse": Verdict.WORSE,
    "unresolved": Verdict.UNRESOLVED,
}  # fmt: skip
_GAINS = {"gains_seen": true(), "gains_measured_again": IS_MEASURED_AGAIN, "gains_held": HOLDS_AGAIN}
ADDED = ("experiments", *_VERDICTS, "failed", *_GAINS)
"""Columns that add up."""


class TopicRow(NamedTuple):
    """A topic, with the counts of its experiments by what came of them, and of the gains among them that were seen in
    one run; `axis` is as one of them wrote it, and `newest_at` the latest known date of what was done."""

    topic: str
    axis: str
    experiments: int
    improved: int
    no_change: int
    worse: int
    unresolved: int
    failed: int
    newest_id: int
    newest_at: datetime | None
    gains_seen: int
    gains_measured_again: int
    gains_held: int

    def add(self, other: "TopicRow") -> "TopicRow":
        newest = max(self, other, key=lambda row: row.newest_id)
        sums = {name: getattr(self, name) + getattr(other, name) for name in ADDED}
        axes = [row.axis for row in (self, other) if row.axis]
        dates = [row.newest_at for row in (self, other) if row.newest_at]
        return newest._replace(axis=min(axes, default=""), newest_at=max(dates, default=None), **sums)


def _count(condition: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """Counts of the experiments that fit, by topic. Hidden ones count for nothing; their topic stands there all the
    same, since they may come back."""
    own = is_of_commit(_POSTERIORS.c, _EXPERIMENTS.c.commit_sha, _FINDINGS.c.hardware_class)
    shown = func.count().filter(~_FINDINGS.c.is_hidden)
    by_verdict = (shown.filter(_POSTERIORS.c.verdict == verdict) for verdict in _VERDICTS.values())
    gain = _FINDINGS.c.written_verdict == Verdict.IMPROVED
    joined = _EXPERIMENTS.join(_FINDINGS, _FINDINGS.c.experiment_id == _EXPERIMENTS.c.id).outerjoin(_POSTERIORS, own)
    return (
        select(
            _EXPERIMENTS.c.topic,
            func.coalesce(func.min(_EXPERIMENTS.c.axis).filter(~_FINDINGS.c.is_hidden), ""), shown, *by_verdict,
            shown.filter(_FINDINGS.c.failure.is_not(None)), func.max(_EXPERIMENTS.c.id),
            func.max(_EXPERIMENTS.c.done_at), *(shown.filter(gain, fate) for fate in _GAINS.values()),
        )
        .select_from(joined)
        .where(condition)
        .group_by(_EXPERIMENTS.c.topic)
    )  # fmt: skip


def _is_first_run(project_id: int, hardware_class: str) -> ColumnElement[bool]:
    makers = [kind for kind in JobKind if kind.makes_experiment]
    return and_(is_of_class(_RUNS.c, project_id, hardware_class), _RUNS.c.kind.in_(makers))


def _list_beyond(session: Session, project_id: int) -> dict[str, TopicRow]:
    """Counts of the experiments that are not counted yet, by topic."""
    is_its = is_of_same_class(_CLASSES.c, _EPOCHS.c)
    newest = select(func.max(_RUNS.c.id)).where(is_of_same_class(_RUNS.c, _EPOCHS.c))
    through = func.coalesce(_CLASSES.c.through_run_id, 0)
    kept = select(_EPOCHS.c.hardware_class, through).outerjoin(_CLASSES, is_its)
    classes = session.execute(kept.where(_EPOCHS.c.project_id == project_id, newest.scalar_subquery() > through))
    beyond = [and_(_is_first_run(project_id, name), _RUNS.c.id > run_id) for name, run_id in classes]
    if not beyond:
        return {}
    ids = select(_RUNS.c.experiment_id).where(or_(*beyond))
    rows = session.execute(_count(_EXPERIMENTS.c.id.in_(ids)))
    return {row[0]: TopicRow._make(row) for row in rows}


def _read(session: Session, condition: ColumnElement[bool], limit: int | None = None) -> list[TopicRow]:
    query = select(*(_COUNTS.c[name] for name in TopicRow._fields)).where(condition)
    rows = session.execute(query.order_by(_COUNTS.c.newest_id.desc()).limit(limit))
    return [TopicRow._make(row) for row in rows]


def list_topics(session: Session, project_id: int, before_id: int | None, limit: int) -> list[TopicRow]:
    """Topics of a project, that of the newest experiment first; `before_id` is the newest of the one before."""
    beyond = _list_beyond(session, project_id)
    is_project = _COUNTS.c.project_id == project_id
    is_before = and_(is_project, _COUNTS.c.experiments > 0)
    if before_id is not None:
        is_before = and_(is_before, _COUNTS.c.newest_id < before_id)
    found = {row.topic: row for row in _read(session, is_before, limit + len(beyond))}
    found |= {row.topic: row for row in _read(session, and_(is_project, _COUNTS.c.topic.in_(beyond)))} if beyond else {}
    for topic, row in beyond.items():
        found[topic] = found[topic].add(row) if topic in found else row
    fitting = [row for row in found.values() if row.experiments and (before_id is None or row.newest_id < before_id)]
    return sorted(fitting, key=lambda row: -row.newest_id)[:limit]


def find_topic(session: Session, project_id: int, topic: str) -> TopicRow | None:
    stored = _read(session, and_(_COUNTS.c.project_id == project_id, _COUNTS.c.topic == topic))
    beyond = _list_beyond(session, project_id).get(topic)
    whole = stored[0].add(beyond) if stored and beyond else stored[0] if stored else beyond
    return whole if whole and whole.experiments else None


def find_oldest_count(session: Session, project_id: int) -> datetime | None:
    """When the verdicts of a project's topics were counted, the one that was longest ago."""
    moment: datetime | None = session.scalar(
        select(func.min(_COUNTS.c.counted_at)).where(_COUNTS.c.project_id == project_id)
    )
    return moment


def count_new(session: Session, project_id: int, hardware_class: str, after_run_id: int, last_run_id: int) -> None:
    """Add the experiments whose first runs are those of a class above an id up to another."""
    first = _is_first_run(project_id, hardware_class)
    ids = select(_RUNS.c.experiment_id).where(first, _RUNS.c.id > after_run_id, _RUNS.c.id <= last_run_id)
    new = [TopicRow._make(row) for row in session.execute(_count(_EXPERIMENTS.c.id.in_(ids)))]
    is_known = and_(_COUNTS.c.project_id == project_id, _COUNTS.c.topic.in_([row.topic for row in new]))
    known = {row.topic: row for row in _read(session, is_known)} if new else {}
    for row in new:
        columns = (known[row.topic].add(row) if row.topic in known else row)._asdict() | {"project_id": project_id}
        if row.topic in known:
            is_its = _COUNTS.c.project_id == project_id, _COUNTS.c.topic == row.topic
            session.execute(update(_COUNTS).where(*is_its).values(**columns))
        else:
            session.execute(insert(_COUNTS), columns | {"counted_at": now()})


def recount_oldest(session: Session, since: datetime) -> bool:
    """Count one topic again: the one whose count is oldest, and older than `since`; returns whether there was one."""
    query = select(_COUNTS.c.project_id, _COUNTS.c.topic, _COUNTS.c.newest_id)
    oldest = session.execute(query.where(_COUNTS.c.counted_at < since).order_by(_COUNTS.c.counted_at).limit(1)).first()
    if oldest is not None:
        _recount(session, *oldest)
    return oldest is not None


def recount_of(session: Session, finding_ids: Sequence[int], limit: int) -> None:
    """Count the topics of findings again, which came to be hidden or shown, at most so many."""
    own = _EXPERIMENTS.join(_FINDINGS, _FINDINGS.c.experiment_id == _EXPERIMENTS.c.id)
    query = select(_EXPERIMENTS.c.project_id, _EXPERIMENTS.c.topic).distinct().select_from(own)
    topics: set[tuple[int, str]] = set()
    for some in batches(finding_ids):
        topics |= {(row.project_id, row.topic) for row in session.execute(query.where(_FINDINGS.c.id.in_(some)))}
    for project_id, topic in sorted(topics)[:limit]:
        its = _COUNTS.c.project_id == project_id, _COUNTS.c.topic == topic
        if (newest_id := session.scalar(select(_COUNTS.c.newest_id).where(*its))) is not None:
            _recount(session, project_id, topic, newest_id)


def _recount(session: Session, project_id: int, topic: str, newest_id: int) -> None:
    of_topic = and_(_EXPERIMENTS.c.project_id == project_id, _EXPERIMENTS.c.topic == topic)
    row = session.execute(_count(and_(of_topic, _EXPERIMENTS.c.id <= newest_id))).first()
    counts = {name: getattr(TopicRow._make(row), name) for name in ("axis", *ADDED, "newest_at")} if row else {}
    is_its = _COUNTS.c.project_id == project_id, _COUNTS.c.topic == topic
    session.execute(update(_COUNTS).where(*is_its).values(**counts, counted_at=now()))


def find_differences(session: Session, project_id: int, name: str) -> Iterator[str]:
    """Topics whose numbers of experiments are not what the experiments give, each in a line."""
    counted = {row.topic: row for row in list_topics(session, project_id, None, 1_000_000)}
    rows = session.execute(_count(_EXPERIMENTS.c.project_id == project_id))
    real = {row[0]: TopicRow._make(row) for row in rows}
    for topic in sorted(counted.keys() | real.keys()):
        was, is_ = (_key_of(found.get(topic)) for found in (counted, real))
        if was != is_:
            yield f"topic {topic} of {name}: {was} is counted, there is {is_}"


def _key_of(row: TopicRow | None) -> Sequence[int]:
    return (row.experiments, row.failed) if row and row.experiments else ()
