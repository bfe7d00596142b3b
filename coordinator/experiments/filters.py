"""The filters and orders of lists of experiments, findings and runs: of their pages, of the API and of exports."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Select, and_, func, or_, select, true
from sqlalchemy.orm import aliased

from coordinator.db.engine import Conn
from coordinator.experiments.failures import SLOW_BELOW, WITHOUT_GAIN
from coordinator.experiments.text_index import text_index_of
from coordinator.http.parameters import Moment, Quantity
from coordinator.models import Branch, Commit, CommitPosterior, Experiment, Finding, FindingTag, Volunteer, Worker
from shared.experiments import JobKind, Standing, Verdict
from shared.findings import FailureClass
from shared.protocol import CLEAN
from shared.records import ExperimentSort
from shared.topics import name_topic

Name = Annotated[str | None, Query(max_length=200), CLEAN]
WITH_RETRACTED = "with_retracted"
"""The one filter that widens a list."""


class FilterQuery(BaseModel):
    """The filters that lists of experiments, findings and runs share, as they stand in addresses."""

    model_config = ConfigDict(allow_inf_nan=False)

    hardware_class: Name = None
    verdict: Verdict | None = None
    standing: Standing | None = None
    kind: JobKind | None = None
    axis: Annotated[
        str | None, Query(max_length=200, description="as written, or as it stands in addresses"), CLEAN
    ] = None
    branch: Name = None
    worker: Annotated[str | None, Query(max_length=200, description="its name, or `volunteer/worker`"), CLEAN] = None
    volunteer: Name = None
    failure: FailureClass | None = None
    failed: Annotated[bool | None, Query(description="whether the first run failed")] = None
    has_code: Annotated[bool | None, Query(description="whether its code is there")] = None
    text: Annotated[
        str | None,
        Query(max_length=200, description="words of the claim, title, axis, value or tags, or how they begin"),
        CLEAN,
    ] = None
    since: Annotated[Moment | None, Query(description="done at or after this moment")] = None
    until: Annotated[Moment | None, Query(description="done before this moment")] = None
    effect_above: Annotated[
        Quantity | None, Query(description="metric(child) − metric(parent), posterior mean, at least, in its unit")
    ] = None
    effect_below: Annotated[Quantity | None, Query(description="likewise, at most")] = None
    metric_above: Annotated[Quantity | None, Query(description="posterior mean of the metric, at least")] = None
    metric_below: Annotated[Quantity | None, Query(description="likewise, at most")] = None

    def to_filters(self, **others: Any) -> "Filters":
        """The filters as queries read them; `others` replace or add to them."""
        given = {name: getattr(self, name) for name in Filters._fields if name in type(self).model_fields}
        named = {"topic": name_topic(self.axis) if self.axis else None, "text": self.text or None}
        return Filters(**given | named | others)


class Filters(NamedTuple):
    """The filters of a list or a search; None or false means no filter.

    `hardware_class` is one in which the experiment was measured, whose posterior then counts; `first_class` is that of
    its first run. `is_ranked`: it does not wait for a maintainer, and none rejected it.
    """

    project_id: int | None = None
    hardware_class: str | None = None
    first_class: str | None = None
    verdict: str | None = None
    standing: str | None = None
    kind: str | None = None
    topic: str | None = None
    branch: str | None = None
    worker: str | None = None
    volunteer: str | None = None
    failure: str | None = None
    failed: bool | None = None
    has_code: bool | None = None
    tag: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    effect_above: float | None = None
    effect_below: float | None = None
    metric_above: float | None = None
    metric_below: float | None = None
    is_ranked: bool | None = None
    with_retracted: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it narrows to a project at most."""
        return self == Filters(project_id=self.project_id, with_retracted=self.with_retracted)

    @property
    def given(self) -> dict[str, Any]:
        """The filters that narrow by a condition, by name."""
        return {name: value for name, value in self._asdict().items() if value is not None and name != WITH_RETRACTED}


class Order(NamedTuple):
    """The order of a list. Orders by numbers are within one project and hardware class."""

    sort: Annotated[
        ExperimentSort, Query(description="by numbers in `hardware_class`, by default the one with the most runs")
    ] = ExperimentSort.NEWEST
    ascending: Annotated[bool, Query(description="oldest or lowest first; the worst first by `best`")] = False


AskedOrder = Annotated[Order, Depends()]


def _failed_as(failure: str) -> ColumnElement[bool]:
    """As `describe_failure` says of a finding."""
    is_slow = func.coalesce(Finding.pace, 1.0) < SLOW_BELOW
    verdicts = list_verdicts_of(failure)
    if not verdicts:
        return Finding.failure == failure
    fits = is_slow if failure == FailureClass.SLOWER else ~is_slow
    return and_(Finding.failure.is_(None), CommitPosterior.verdict.in_(verdicts), fits)


def list_verdicts_of(failure: str) -> list[str | None]:
    return [verdict for verdict, described in WITHOUT_GAIN.items() if failure in (described, FailureClass.SLOWER)]


def is_worker(name: str) -> ColumnElement[bool]:
    """That a worker has a name, or is `volunteer/worker`."""
    volunteer, _, worker = name.partition("/")
    return or_(Worker.name == name, and_(Worker.name == worker, Volunteer.name == volunteer))


Condition = Callable[[Any], ColumnElement[bool]]
CONDITIONS: Mapping[str, Condition] = {
    "project_id": lambda value: Experiment.project_id == value,
    "hardware_class": lambda value: CommitPosterior.commit_sha.is_not(None) | (Finding.hardware_class == value),
    "first_class": lambda value: Finding.hardware_class == value,
    "verdict": lambda value: CommitPosterior.verdict == value,
    "standing": lambda value: CommitPosterior.standing == value,
    "kind": lambda value: Experiment.kind == value,
    "topic": lambda value: Experiment.topic == value,
    "branch": lambda value: Branch.name == value,
    "worker": is_worker,
    "volunteer": lambda value: Volunteer.name == value,
    "failure": _failed_as,
    "failed": lambda value: Finding.failure.is_not(None) if value else Finding.failure.is_(None),
    "has_code": lambda value: Commit.has_code.is_(value),
    "tag": lambda value: Finding.id.in_(select(FindingTag.finding_id).where(FindingTag.tag == value)),
    "since": lambda value: Experiment.done_at >= value,
    "until": lambda value: Experiment.done_at < value,
    "effect_above": lambda value: CommitPosterior.effect_mean >= value,
    "effect_below": lambda value: CommitPosterior.effect_mean <= value,
    "metric_above": lambda value: CommitPosterior.metric_mean >= value,
    "metric_below": lambda value: CommitPosterior.metric_mean <= value,
    "is_ranked": lambda value: CommitPosterior.standing.not_in((Standing.HELD, Standing.REJECTED)) if value else true(),
}
"""The condition of each filter on a row of `join_measured`, but for that of `text`, which the engine's index has. The
posterior is that in the hardware class asked for."""

OF_WORKER = frozenset({"worker", "volunteer"})


def join_measured(query: Select[*tuple[Any, ...]], filters: Filters) -> Select[*tuple[Any, ...]]:
    """Experiments with their findings, their posteriors, and what else the filters' conditions need.

    The posterior is that in the filters' hardware class, else in the class of the first run.
    """
    is_of_class = CommitPosterior.hardware_class == (filters.hardware_class or Finding.hardware_class)
    query = query.select_from(Experiment).join(Finding, Finding.experiment_id == Experiment.id)
    query = query.outerjoin(CommitPosterior, and_(CommitPosterior.commit_sha == Experiment.commit_sha, is_of_class))
    names = filters.given.keys()
    if "has_code" in names:
        query = query.join(Commit, Commit.sha == Experiment.commit_sha)
    if "branch" in names:
        query = query.join(Branch, Branch.id == Experiment.branch_id)
    if names & OF_WORKER:
        query = query.join(Worker, Worker.id == Experiment.worker_id)
        query = query.join(Volunteer, Volunteer.id == Worker.volunteer_id)
    return query


def alias_fitting(
    session: Conn, kind: type[Experiment] | type[Finding], filters: Filters, *more: ColumnElement[bool]
) -> tuple[Any, ColumnElement[bool]]:
    """An alias of a table, and the condition that its row fits the filters and `more`, which is on `join_measured`.

    In a join SQLite, which keeps no statistics, would go through all experiments of a project, a branch or a volunteer.
    """
    asked = aliased(kind)
    fits = join_measured(select(kind.id), filters).where(kind.id == asked.id, *list_conditions(session, filters), *more)
    return asked, fits.exists()


def list_conditions(
    session: Conn, filters: Filters, conditions: Mapping[str, Condition] = CONDITIONS
) -> list[ColumnElement[bool]]:
    """The filters' conditions on rows of `join_measured`."""
    given = filters.given
    words = given.pop("text", None)
    found = [conditions[name](value) for name, value in given.items()]
    return found if words is None else [*found, text_index_of(session).holds(words)]
