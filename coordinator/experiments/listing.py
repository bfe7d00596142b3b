"""Pages of lists of experiments and findings: an order is walked along its index, or what fits one filter is sorted."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Null, Select, literal, null, select, tuple_
from sqlalchemy.orm import Session

from coordinator.evidence.run_stats import list_hardware_classes
from coordinator.experiments.filters import (
    CONDITIONS,
    OF_WORKER,
    Filters,
    Order,
    alias_fitting,
    join_measured,
    list_verdicts_of,
)
from coordinator.experiments.text_index import text_index_of
from coordinator.http.errors import SwarmError
from coordinator.http.pagination import Position, decode_position, encode_position
from coordinator.models import (
    Branch,
    Commit,
    CommitPosterior,
    EvidenceEpoch,
    Experiment,
    Finding,
    FindingTag,
    Project,
    Volunteer,
    Worker,
)
from coordinator.models.lineage import IS_LOST
from coordinator.projects.service import contract_of
from shared.records import ExperimentSort

FEW = 2_000
"""Number of experiments that may fit one filter for all of them to be looked at; a list is then exact."""

EXAMINED = (250, 500, 1_000, 2_000)
"""Numbers of experiments that one page looks at, part by part, where each filter alone fits more than FEW."""

MAX_EXAMINED = sum(EXAMINED)


class OrderInvalidError(SwarmError, status=422, title="The list has no such order"):
    """Numbers of different projects have nothing in common."""


def settle(
    session: Session, project: Project | None, filters: Filters, order: Order, *, by_first_class: bool
) -> tuple[Filters, Order]:
    """The filters and the order as queries take them. Raises OrderInvalidError.

    Orders by numbers are in the class that was asked for, else in that with the most runs. A list with dates is ordered
    by them. With `by_first_class` a hardware class is that of the first run.
    """
    if order.sort == ExperimentSort.NEWEST and (filters.since or filters.until):
        order = order._replace(sort=ExperimentSort.DONE)
    if order.sort in (ExperimentSort.BEST, ExperimentSort.EFFECT, ExperimentSort.METRIC):
        if project is None:
            raise OrderInvalidError(
                f"Name a project to sort by {order.sort}: numbers of several have nothing in common."
            )
        filters = filters._replace(hardware_class=filters.hardware_class or choose_class(session, project.id))
        if order.sort == ExperimentSort.BEST:
            is_lower = contract_of(project).objective.sign > 0
            order = Order(ExperimentSort.METRIC, ascending=is_lower is not order.ascending)
            filters = filters._replace(is_ranked=True if filters.standing is None else None)
    return (filters._replace(first_class=filters.hardware_class) if by_first_class else filters), order


def choose_class(session: Session, project_id: int) -> str:
    """The hardware class of orders by numbers where none is asked for: that with the most runs."""
    return next((one.name for one in list_hardware_classes(session, project_id)), "")


def classes_of(filters: Filters) -> Any:
    """The hardware class that is asked for, or all of the project: indexes of numbers begin with them."""
    every = select(EvidenceEpoch.hardware_class).where(EvidenceEpoch.project_id == filters.project_id)
    return [filters.hardware_class] if filters.hardware_class else every


def keep_fitting(session: Session, ids: Iterable[int], filters: Filters) -> set[int]:
    """Those of some experiments that the filters let through."""
    asked, fits = alias_fitting(session, Experiment, filters)
    return set(session.scalars(select(asked.id).where(asked.id.in_(ids), fits)))


def keep_having(
    session: Session, column: Any, ids: Iterable[Any], filters: Filters, *, at_once: bool = False
) -> set[Any]:
    """Those of some projects, branches or topics, as the `column` of experiments names them, that have one which fits.
    Where each filter alone fits more than FEW: among the MAX_EXAMINED newest of each, or `at_once` of the project."""
    few = find_few(session, list_sources(session, filters))
    asked, fits = alias_fitting(session, Experiment, filters)
    query = select(getattr(asked, column.key)).where(fits)
    newest = select(Experiment.id).order_by(Experiment.id.desc()).limit(MAX_EXAMINED)
    if few is not None or at_once:
        some = newest.where(Experiment.project_id == filters.project_id) if few is None else few
        return set(session.scalars(query.where(asked.id.in_(some)).distinct())) & set(ids)
    return {
        one
        for one in ids
        if session.scalar(query.where(asked.id.in_(newest.where(column == one))).limit(1)) is not None
    }


def list_page(
    session: Session, filters: Filters, order: Order, cursor: str | None, limit: int, *others: ColumnElement[bool]
) -> tuple[list[int], str | None]:
    """The experiments of a page and the cursor of the next one. `others` are further conditions on `join_measured`.

    If at most FEW fit one of the filters, they alone are looked at, and the page is exact. Else MAX_EXAMINED
    experiments at most are looked at, in the list's order: a page may have fewer than `limit` rows, and go on.
    Raises CursorInvalidError.
    """
    after = find_position(cursor, *_columns_of(order))
    asked, fits = alias_fitting(session, Experiment, filters, *others)
    few = find_few(session, list_sources(session, filters))
    if few == []:
        return [], None
    if few is not None:
        ids = session.scalars(select(asked.id).where(asked.id.in_(few), fits)).all()
        query = join_measured(select(*_columns_of(order), Experiment.id), filters).where(Experiment.id.in_(ids))
        query = arrange(query, *_columns_of(order), after, ascending=order.ascending)
        rows = session.execute(query.limit(limit + 1)).all()
        found, end = [row[2] for row in rows[:limit]], Position(*rows[limit - 1][:2]) if len(rows) > limit else None
    else:
        value = _columns_of(order)[1]
        key = asked.commit_sha if order.sort in _BY_POSTERIOR else asked.id
        some = select(key, asked.id).where(fits)
        keys, indexed = _list_keys(filters, order)

        def list_keys(place: Position | None) -> Select[*tuple[Any, ...]]:
            return arrange(keys, indexed, value, place, ascending=order.ascending)

        found, end = walk(session, key, list_keys, some, after, limit)
    return found, encode_position(end) if end else None


def walk(
    session: Session, key: Any, list_keys: Callable[[Position | None], Select[*tuple[Any, ...]]],
    fitting: Select[*tuple[Any, ...]], after: Position | None, limit: int,
) -> tuple[list[int], Position | None]:  # fmt: skip
    """Ids of the rows that fit, looked for in an order part by part, and the last place that was looked at.

    `list_keys` gives the places behind one, `fitting` keys and ids of rows that fit. No place is given where it ends.
    """
    found: list[tuple[int, Position]] = []
    for size in EXAMINED:
        part = [Position(*row) for row in session.execute(list_keys(after).limit(size)).all()]
        rows = session.execute(fitting.where(key.in_([one.key for one in part]))) if part else ()
        ids = {row[0]: row[1] for row in rows}
        found += [(ids[one.key], one) for one in part if one.key in ids]
        if len(found) > limit:
            return [number for number, _ in found[:limit]], found[limit - 1][1]
        if len(part) < size:
            return [number for number, _ in found], None
        after = part[-1]
    return [number for number, _ in found], after


def _columns_of(order: Order) -> tuple[Any, Any]:
    """The column that names an experiment in an order, and that of the value which orders it: none by number."""
    return {
        ExperimentSort.NEWEST: (Experiment.id, null()),
        ExperimentSort.DONE: (Experiment.id, Experiment.done_at),
        ExperimentSort.EFFECT: (CommitPosterior.commit_sha, CommitPosterior.effect_mean),
        ExperimentSort.METRIC: (CommitPosterior.commit_sha, CommitPosterior.metric_mean),
    }[order.sort]


def find_position(cursor: str | None, key: Any, value: Any) -> Position | None:
    """The position behind which a page of rows begins that these columns order. Raises CursorInvalidError."""
    if cursor is None:
        return None
    kind = None if isinstance(value, Null) else value.type.python_type
    return decode_position(cursor, kind, key.type.python_type)


def arrange(
    query: Select[*tuple[Any, ...]], key: Any, value: Any, after: Position | None, *, ascending: bool
) -> Select[*tuple[Any, ...]]:
    """Rows by a value, then by their key, behind a position; by the key alone where the value is NULL throughout. Rows
    without the value are left out."""
    places = (key,) if isinstance(value, Null) else (value, key)
    query = query.where(*(one.is_not(None) for one in places[:-1]))
    if after is not None:
        bound = (after.key,) if len(places) == 1 else (literal(after.value, value.type), after.key)
        place = tuple_(*places)
        query = query.where(place > tuple_(*bound) if ascending else place < tuple_(*bound))
    return query.order_by(*(one if ascending else one.desc() for one in places))


_RANGES = {
    ExperimentSort.DONE: ("since", "until"), ExperimentSort.EFFECT: ("effect_above", "effect_below"),
    ExperimentSort.METRIC: ("metric_above", "metric_below"),
}  # fmt: skip
"""Filters of the value that orders a list: an index finds both ends."""

_BY_POSTERIOR = (ExperimentSort.EFFECT, ExperimentSort.METRIC)
OF_POSTERIOR = ("verdict", "standing", "is_ranked", "effect_above", "effect_below", "metric_above", "metric_below")
"""Filters of posteriors, which the indexes of orders by numbers have, too: such a list is exact."""


def _list_keys(filters: Filters, order: Order) -> tuple[Select[*tuple[Any, ...]], Any]:
    """All keys of an order, as one index holds them, and the key's column there: of the project, and of one filter that
    has an index by number."""
    key, value = _columns_of(order)
    given = filters.given
    names = [*_RANGES.get(order.sort, ()), *(OF_POSTERIOR if order.sort in _BY_POSTERIOR else ())]
    bounds = [CONDITIONS[name](given[name]) for name in names if name in given]
    if filters.failure is not None and order.sort in _BY_POSTERIOR and (verdicts := list_verdicts_of(filters.failure)):
        bounds.append(CommitPosterior.verdict.in_(verdicts))
    if order.sort in _BY_POSTERIOR:
        of_class = CommitPosterior.hardware_class == filters.hardware_class
        return select(key, value).where(CommitPosterior.project_id == filters.project_id, of_class, *bounds), key
    query = select(key, value).where(*bounds)
    if filters.project_id is None:
        return query, key
    if order.sort == ExperimentSort.NEWEST and filters.first_class is not None:
        own, of_class = Finding.project_id == filters.project_id, Finding.hardware_class == filters.first_class
        return select(Finding.experiment_id, value).where(own, of_class), Finding.experiment_id
    query = query.where(Experiment.project_id == filters.project_id)
    if order.sort == ExperimentSort.NEWEST and filters.topic is not None:
        query = query.where(Experiment.topic == filters.topic)
    return query, key


def find_few(session: Session, sources: Iterable[Select[int]]) -> Sequence[int] | None:
    """The numbers that the first source gives which has at most FEW."""
    for source in sources:
        found = session.scalars(source.limit(FEW + 1)).all()
        if len(found) <= FEW:
            return found
    return None


def list_workers(session: Session, filters: Filters) -> list[int]:
    """The workers that the filters name, in a step of its own: PostgreSQL would read all that they made."""
    given = filters.given
    named = [CONDITIONS[name](given[name]) for name in OF_WORKER & given.keys()]
    query = select(Worker.id).join(Volunteer, Volunteer.id == Worker.volunteer_id)
    return list(session.scalars(query.where(*named)))


def list_sources(session: Session, filters: Filters) -> Iterator[Select[int]]:
    """For each filter with an index the numbers of the experiments that it lets through, and perhaps some others."""
    ids, own, given = select(Experiment.id), Experiment.project_id == filters.project_id, filters.given
    if filters.tag is not None:
        of_tag = select(Finding.experiment_id).join(FindingTag, FindingTag.finding_id == Finding.id)
        yield of_tag.where(FindingTag.tag == filters.tag)
    if given.keys() & OF_WORKER:
        yield ids.where(Experiment.worker_id.in_(list_workers(session, filters)))
    if filters.branch is not None:
        branches = select(Branch.id).where(Branch.name == filters.branch)
        of_project = branches if filters.project_id is None else branches.where(Branch.project_id == filters.project_id)
        yield ids.where(Experiment.branch_id.in_(list(session.scalars(of_project))))
    if filters.text is not None:
        holders = text_index_of(session).select_holders(filters.text).limit(FEW + 1)
        yield select(Finding.experiment_id).where(Finding.id.in_(holders))
    if filters.project_id is None:
        return
    if filters.topic is not None:
        yield ids.where(own, Experiment.topic == filters.topic)
    if filters.kind is not None:
        yield ids.where(own, Experiment.kind == filters.kind)
    failures = Finding.project_id == filters.project_id, Finding.failure.is_not(None)
    if filters.failed:
        yield select(Finding.experiment_id).where(*failures)
    if filters.failure is not None and not list_verdicts_of(filters.failure):
        yield select(Finding.experiment_id).where(*failures, Finding.failure == filters.failure)
    if filters.has_code is False:
        lost = select(Commit.sha).where(Commit.project_id == filters.project_id, IS_LOST)
        yield ids.where(Experiment.commit_sha.in_(lost))
    if filters.since or filters.until:
        yield ids.where(own, *(CONDITIONS[name](given[name]) for name in ("since", "until") if name in given))
    yield from _list_measured_sources(filters)


def _list_measured_sources(filters: Filters) -> Iterator[Select[int]]:
    """As `list_sources`, of filters on posteriors, in whatever hardware class."""
    given = filters.given
    own = CommitPosterior.project_id == filters.project_id
    ids = select(Experiment.id).join(CommitPosterior, CommitPosterior.commit_sha == Experiment.commit_sha).where(own)
    for name in ("standing", "verdict"):
        if name in given:
            yield ids.where(CONDITIONS[name](given[name]))
    if filters.failure is not None and (verdicts := list_verdicts_of(filters.failure)):
        yield ids.where(CommitPosterior.verdict.in_(verdicts))
    of_class = CommitPosterior.hardware_class.in_(classes_of(filters))
    for names in (_RANGES[ExperimentSort.EFFECT], _RANGES[ExperimentSort.METRIC]):
        bounds = [CONDITIONS[name](given[name]) for name in names if name in given]
        if bounds:
            yield ids.where(of_class, *bounds)
