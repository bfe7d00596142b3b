"""Topics: what the swarm knows along each axis, computed from the evidence as of now."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import hypot
from typing import Annotated, NamedTuple

from fastapi import Query
from sqlalchemy.orm import Session

from coordinator.db.engine import LabelledRow
from coordinator.experiments.filters import FilterQuery
from coordinator.experiments.listing import keep_having
from coordinator.findings import paper_queries, queries, service, topic_counts
from coordinator.findings.candidates import trace_values
from coordinator.findings.pooling import (
    DOUBTED,
    MIN_POOLED,
    Parent,
    estimate_levels,
    find_old,
    list_untested,
    pool,
    read_shift,
)
from coordinator.findings.topic_counts import TopicRow
from coordinator.http.errors import must_find
from coordinator.http.pagination import cut_page, decode_id_cursor, sort_page
from coordinator.http.parameters import Moment, is_within
from coordinator.models import Experiment, Project, view_of
from coordinator.projects import service as projects
from coordinator.projects.lookup import list_projects
from shared.experiments import AxisDirection, Standing, Verdict
from shared.protocol import CLEAN, Page, now
from shared.topics import (
    GainFates,
    Topic,
    TopicEffect,
    TopicElsewhere,
    TopicLevel,
    TopicPool,
    TopicSort,
    TopicSummary,
    name_topic,
)

MAX_EFFECTS = 200
MAX_FINDINGS = 100
CLASSES_EACH = 3
"""Number of hardware classes for each experiment of a page that are read at once."""

EFFECTS_AT_ONCE = 25
"""Number of effects on a page of a topic's."""

MAX_FOLLOW_UPS = 20
MAX_ELSEWHERE = 50
"""Number of other projects in which a topic is looked for."""
MAX_TOPICS = 100_000
"""Number of a project's topics, the newest, that are sorted."""


class TopicQuery(FilterQuery):
    """The filters and the order of a list of topics, as they stand in addresses. Those of experiments are on the ones
    that a topic has: one must fit."""

    text: Annotated[str | None, Query(max_length=200, description="a part of the axis"), CLEAN] = None
    min_experiments: Annotated[int, Query(ge=0, le=2**31 - 1, description="with at least so many experiments")] = 0
    since: Annotated[Moment | None, Query(description="with an experiment done at or after this moment")] = None
    until: Annotated[Moment | None, Query(description="with none done at or after this moment")] = None
    sort: Annotated[TopicSort, Query(description="by the newest experiment, its date, or a number of experiments")] = (
        TopicSort.NEWEST
    )
    ascending: Annotated[bool, Query(description="oldest or lowest first")] = False

    def choose(self, session: Session, project: Project, rows: Iterable[TopicRow]) -> list[TopicRow]:
        """The rows that fit."""
        found = [row for row in rows if self._fits(row)]
        filters = self.to_filters(project_id=project.id, text=None, since=None, until=None)
        if filters.is_plain:
            return found
        topics = [row.topic for row in found]
        kept = keep_having(session, Experiment.topic, topics, filters, at_once=True)
        return [row for row in found if row.topic in kept]

    def _fits(self, row: TopicRow) -> bool:
        is_named = (self.text or "").casefold() in f"{row.axis}\n{row.topic}".casefold()
        return is_named and row.experiments >= self.min_experiments and is_within(row.newest_at, self.since, self.until)

    def read(self, row: TopicRow) -> tuple[float | None, int]:
        """The value that orders a topic, and its number."""
        if self.sort == TopicSort.DONE:
            return row.newest_at.timestamp() if row.newest_at else None, row.newest_id
        return getattr(row, "newest_id" if self.sort == TopicSort.NEWEST else self.sort.value), row.newest_id


class _Measured(NamedTuple):
    """An effect with its mean and sd as runs tell them, with a key of its parent and the sd of that one's metric, which
    it holds."""

    effect: TopicEffect
    mean: float
    sd: float
    parent: Parent


def list_sorted(
    session: Session, project: Project, asked: TopicQuery, cursor: str | None, limit: int
) -> Page[TopicSummary]:
    """A project's topics that fit, in the order asked for. Raises CursorInvalidError."""
    if asked == TopicQuery():
        return view_page(session, project, decode_id_cursor(cursor) if cursor is not None else None, limit)
    rows = asked.choose(session, project, topic_counts.list_topics(session, project.id, None, MAX_TOPICS))
    page = sort_page(rows, asked.read, asked.ascending, cursor, limit)
    return Page(items=[_view_summary(row, project.name) for row in page.items], next_cursor=page.next_cursor)


def view_page(session: Session, project: Project, before_id: int | None, limit: int) -> Page[TopicSummary]:
    """A project's topics, that of the newest experiment first."""
    rows = topic_counts.list_topics(session, project.id, before_id, limit + 1)
    page = cut_page(rows, limit, lambda row: row.newest_id)
    return Page(items=[_view_summary(row, project.name) for row in page.items], next_cursor=page.next_cursor)


def view_topic(
    session: Session, project: Project, slug: str, most_each: int = MAX_FINDINGS, most_proposing: int = MAX_FOLLOW_UPS
) -> Topic:
    """All that is known along an axis, with the newest MAX_FINDINGS findings, of each side at most `most_each`.

    Raises NotFoundError.
    """
    found = topic_counts.find_topic(session, project.id, slug)
    row = must_find(found, f"Nothing was tried in {project.name} along {slug}.")
    sign = projects.contract_of(project).objective.sign
    rows = paper_queries.list_effects(session, project.id, slug, MAX_EFFECTS)
    effects = _view_effects(session, slug, rows)
    measured = list(_measure_effects(rows, effects))
    sides: dict[bool | None, list[int]] = {True: [], False: [], None: []}
    outcomes = paper_queries.list_outcomes(session, project.id, slug, MAX_FINDINGS)
    failed = [outcome.value for outcome in outcomes if outcome.failure is not None]
    for outcome in outcomes:
        sides[_side_of(outcome)].append(outcome.finding_id)
    ids = [finding_id for side in sides.values() for finding_id in side[:most_each]]
    summaries = {one.id: one for one in service.view_summaries(session, queries.list_by_ids(session, ids))}
    papers = {side: [summaries[one] for one in found if one in summaries] for side, found in sides.items()}
    proposing = paper_queries.list_open_follow_ups(session, project.id, slug, most_proposing)
    return Topic(
        summary=_view_summary(row, project.name), effects=effects, pools=list(_pool_effects(measured)),
        levels=list(_estimate_levels(measured)), elsewhere=_list_elsewhere(session, project, slug),
        gains=GainFates(seen=row.gains_seen, measured_again=row.gains_measured_again, held=row.gains_held),
        findings_for=papers[True], findings_against=papers[False], open_findings=papers[None],
        untested=list(list_untested(effects, sign, failed)),
        follow_ups=service.view_follow_ups(session, proposing), as_of=now(),
    )  # fmt: skip


def list_effects(
    session: Session, project: Project, slug: str, before_id: int | None, limit: int = EFFECTS_AT_ONCE
) -> Page[TopicEffect]:
    """A topic's effects, newest experiment first. An experiment that several classes measured is on one page."""
    rows = paper_queries.list_effects(session, project.id, slug, CLASSES_EACH * (limit + 1), before_id)
    return cut_effects(_view_effects(session, slug, rows), limit)


def cut_effects(effects: Sequence[TopicEffect], limit: int = EFFECTS_AT_ONCE) -> Page[TopicEffect]:
    """The effects of the first experiments among those of a topic, as a page."""
    ids = list(dict.fromkeys(effect.experiment_id for effect in effects))
    page = cut_page(ids[: limit + 1], limit, lambda number: number)
    shown = set(page.items)
    return Page(items=[one for one in effects if one.experiment_id in shown], next_cursor=page.next_cursor)


def _view_effects(session: Session, slug: str, rows: Sequence[LabelledRow]) -> list[TopicEffect]:
    """The effects, with the values that they began from: as their titles say, else their parents' settings, else the
    nearest ancestor that was given one on this axis."""
    named = {row.experiment_id: find_old(row.title, row.value) for row in rows}
    values = {row.commit_sha: row.value for row in rows}
    parents = {row.parent_sha for row in rows if not named[row.experiment_id]}
    before = {
        sha: next((str(value) for name, value in known.items() if name_topic(name) == slug), "")
        for sha, known in paper_queries.map_settings(session, parents).items()
    }
    before |= trace_values(session, {sha for sha in parents if not before.get(sha)}, values)
    olds = ((row, named[row.experiment_id] or before.get(row.parent_sha, "")) for row in rows)
    return [view_of(TopicEffect, row, old_value=old) for row, old in olds]


def _estimate_levels(effects: Sequence[_Measured]) -> Iterator[TopicLevel]:
    """The levels in each hardware class, and in all of them where there are several."""
    shifts = [(one.effect.hardware_class, read_shift(one.effect, one.mean, one.sd, one.parent)) for one in effects]
    classes = sorted({name for name, _ in shifts})
    for name in (*classes, *([None] if len(classes) > 1 else [])):
        some = [shift for of_class, shift in shifts if shift is not None and name in (None, of_class)]
        for level in estimate_levels(some):
            yield view_of(TopicLevel, level, hardware_class=name)


def _list_elsewhere(session: Session, project: Project, slug: str) -> list[TopicElsewhere]:
    """The axis in other projects, each in its own metric."""
    others = [one for one in list_projects(session) if one.id != project.id][:MAX_ELSEWHERE]
    known = [(one, row) for one in others if (row := topic_counts.find_topic(session, one.id, slug)) is not None]
    found = []
    for other, row in sorted(known, key=lambda pair: -pair[1].experiments):
        objective = projects.contract_of(other).objective
        rows = paper_queries.list_effects(session, other.id, slug, MAX_EFFECTS)
        effects = _measure_effects(rows, _view_effects(session, slug, rows))
        pools = [one for one in _pool_effects(effects) if one.hardware_class is None]
        summary, is_lower = _view_summary(row, other.name), objective.sign > 0
        found.append(TopicElsewhere(summary=summary, metric=objective.metric, is_lower_better=is_lower, pools=pools))
    return found


def _view_summary(row: TopicRow, project: str) -> TopicSummary:
    return view_of(TopicSummary, row, project=project, slug=row.topic)


def _side_of(outcome: LabelledRow) -> bool | None:
    """Whether a finding speaks for going along this axis, against it, or (None) for neither yet."""
    if outcome.verdict == Verdict.IMPROVED:
        return True
    return False if outcome.verdict in (Verdict.WORSE, Verdict.NO_CHANGE) or outcome.failure is not None else None


def _measure_effects(rows: Sequence[LabelledRow], effects: Sequence[TopicEffect]) -> Iterator[_Measured]:
    """The effects as their own runs tell them, of those whose parents were measured, too.

    Each posterior holds what was expected of its effect: many of them taken together would say that as often as they
    are, and these do not.
    """
    for row, effect in zip(rows, effects, strict=True):
        if row.measured_sd and row.parent_sd is not None and row.parent_standing != Standing.REJECTED:
            mean, sd = row.measured_mean - row.parent_mean, hypot(row.measured_sd, row.parent_sd)
            parent = (row.parent_sha, row.hardware_class), row.parent_sd
            yield _Measured(effect, mean, sd, parent)


def _pool_effects(effects: Iterable[_Measured]) -> Iterator[TopicPool]:
    """Each direction in each hardware class, and in all of them; held numbers wait for a maintainer."""
    groups: defaultdict[tuple[str | None, AxisDirection], list[_Measured]] = defaultdict(list)
    for one in effects:
        if one.effect.standing not in DOUBTED and one.sd > 0:
            for name in (one.effect.hardware_class, None):
                groups[name, one.effect.direction].append(one)
    for (name, direction), members in sorted(groups.items(), key=_by_class):
        if len(members) >= MIN_POOLED:
            counts = {"hardware_class": name, "experiments": len({one.effect.experiment_id for one in members})}
            pooled = pool([(one.mean, one.sd) for one in members], [one.parent for one in members])
            yield view_of(TopicPool, pooled, direction=direction, **counts)


def _by_class(group: tuple[tuple[str | None, AxisDirection], object]) -> tuple[bool, str, str]:
    """All classes together come last."""
    (name, direction), _ = group
    return name is None, name or "", direction
