"""Questions about findings: storing them, and what lists of them show."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    String,
    cast,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session

from coordinator.db.engine import Conn, LabelledRow, engine_of
from coordinator.experiments.filters import Filters, alias_fitting
from coordinator.models import (
    AuditEntry,
    Branch,
    Citation,
    CommitPosterior,
    DeferredText,
    Embedding,
    Experiment,
    Finding,
    FindingTag,
    Lease,
    Project,
    Run,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.models.base import is_of_commit
from coordinator.models.findings import IS_SHOWN
from shared.findings import FindingState
from shared.moderation import AuditAction
from shared.protocol import now

MAX_COUNTED_CITATIONS = 1_000
"""In a list; counting all of a popular finding's takes longer than the rest of the page."""

MAX_RUNNING = 200

_FINDINGS, _CITATIONS = table_of(Finding), table_of(Citation)
_ADD = insert(_FINDINGS).returning(_FINDINGS.c.id)
_CITE = {
    "sqlite": text(
        "insert into citations (experiment_id, finding_id) select :of_experiment, id from findings "
        "where id in (select value from json_each(:ids))"
    ),
    "postgresql": text(
        "insert into citations (experiment_id, finding_id) select cast(:of_experiment as integer), id from findings "
        "where id in (select cast(value as integer) from json_array_elements_text(cast(:ids as json)))"
    ),
}
"""By engine. The numbers are one JSON list: SQLAlchemy would write another statement for each length."""


class FindingRow(NamedTuple):
    """A finding with its experiment, and the posterior in the hardware class asked for, else in its own."""

    finding: Finding
    experiment: Experiment
    posterior: CommitPosterior | None
    project: str
    branch: str
    volunteer: str
    outcome: str


def add_finding(session: Conn, columns: Mapping[str, Any]) -> int:
    """Add a row; returns its id."""
    return int(session.scalar(_ADD, columns))


def add_citations(session: Conn, experiment_id: int, finding_ids: Iterable[int]) -> None:
    if ids := list(finding_ids):
        cite = _CITE[engine_of(session).dialect.name]
        session.execute(cite, {"of_experiment": experiment_id, "ids": json.dumps(ids)})


def add_tags(session: Conn, finding_id: int, tags: Iterable[str]) -> None:
    rows = [{"finding_id": finding_id, "tag": tag} for tag in tags]
    if rows:
        session.execute(insert(table_of(FindingTag)), rows)


def remove_tags(session: Conn, finding_id: int) -> None:
    session.execute(delete(FindingTag).where(FindingTag.finding_id == finding_id))


def hide_quarantined(session: Conn, volunteer_id: int, *, is_hidden: bool) -> list[int]:
    """Hide the findings of an account's workers in quarantine, or show those again that are in none; returns them."""
    is_in_quarantine = or_(Worker.quarantine.is_not(None), Volunteer.quarantine.is_not(None))
    own = (
        select(Experiment.id)
        .join(Worker, Worker.id == Experiment.worker_id)
        .join(Volunteer, Volunteer.id == Worker.volunteer_id)
        .where(Volunteer.id == volunteer_id, is_in_quarantine if is_hidden else ~is_in_quarantine)
    )
    is_other = _FINDINGS.c.experiment_id.in_(own), _FINDINGS.c.is_hidden.is_(not is_hidden)
    change = update(_FINDINGS).where(*is_other).values(is_hidden=is_hidden).returning(_FINDINGS.c.id)
    return list(session.scalars(change))


def find_quarantine(session: Conn, finding: Finding) -> tuple[str, str]:
    """The author of a hidden finding, as `volunteer` or `volunteer/worker`, and the reason of the quarantine."""
    query = (
        select(Volunteer.name, Volunteer.quarantine, Worker.name, Worker.quarantine)
        .join(Worker, Worker.volunteer_id == Volunteer.id)
        .join(Experiment, Experiment.worker_id == Worker.id)
        .where(Experiment.id == finding.experiment_id)
    )
    volunteer, of_account, worker, of_worker = session.execute(query).one()
    return (volunteer, of_account) if of_account is not None else (f"{volunteer}/{worker}", of_worker or "")


def find_quarantine_of(session: Conn, volunteer: str) -> str | None:
    """The reason of an account's quarantine."""
    return session.scalar(select(Volunteer.quarantine).where(Volunteer.name == volunteer))


def find_newest_quarantine(session: Conn) -> LabelledRow | None:
    """The `id` of the newest entry of the audit log by which a quarantine began or ended, and its `created_at`."""
    query = select(AuditEntry.id, AuditEntry.created_at)
    query = query.where(AuditEntry.action.in_([AuditAction.QUARANTINE, AuditAction.RELEASE]))
    return session.execute(query.order_by(AuditEntry.id.desc()).limit(1)).first()


def list_published(session: Conn, volunteer_id: int, limit: int) -> list[int]:
    """Numbers of an account's newest papers that are not retracted."""
    is_its = _FINDINGS.c.experiment_id.in_(_select_made(volunteer_id))
    query = select(_FINDINGS.c.id).where(is_its, _FINDINGS.c.state == FindingState.PUBLISHED)
    return list(session.scalars(query.order_by(_FINDINGS.c.id.desc()).limit(limit)))


def lock_states(session: Conn, volunteer_id: int) -> dict[int, str]:
    """The states of an account's papers by their number, locked until the transaction ends."""
    query = select(_FINDINGS.c.id, _FINDINGS.c.state).where(_FINDINGS.c.experiment_id.in_(_select_made(volunteer_id)))
    return {
        row.id: row.state for row in session.execute(query.order_by(_FINDINGS.c.id).with_for_update(key_share=True))
    }


def _select_made(volunteer_id: int) -> Select[int]:
    """The experiments of an account."""
    own = select(Experiment.id).join(Worker, Worker.id == Experiment.worker_id)
    return own.where(Worker.volunteer_id == volunteer_id)


def list_ids_of_account(session: Conn, volunteer_id: int, before_id: int | None, limit: int) -> list[int]:
    """Numbers of an account's papers that are not hidden, the newest first."""
    query = select(Finding.id).join(Experiment, Experiment.id == Finding.experiment_id)
    query = query.join(Worker, Worker.id == Experiment.worker_id)
    query = query.where(Worker.volunteer_id == volunteer_id, ~Finding.is_hidden)
    if before_id is not None:
        query = query.where(Finding.id < before_id)
    return list(session.scalars(query.order_by(Finding.id.desc()).limit(limit)))


def keep_unhidden(session: Conn, ids: Sequence[int]) -> set[int]:
    """Those of the findings that are not hidden."""
    return set(session.scalars(select(_FINDINGS.c.id).where(_FINDINGS.c.id.in_(ids), ~_FINDINGS.c.is_hidden)))


def lock_finding(session: Session, finding_id: int) -> Finding | None:
    """A finding, its row locked until the transaction ends."""
    return session.scalar(select(Finding).where(Finding.id == finding_id).with_for_update(key_share=True))


def _outcome() -> ColumnElement[str]:
    first = select(func.min(Run.id)).where(Run.experiment_id == Finding.experiment_id).correlate(Finding)
    return select(Run.outcome).where(Run.id == first.scalar_subquery()).correlate(Finding).scalar_subquery()


def _is_posterior(hardware_class: str | None) -> ColumnElement[bool]:
    wanted = Finding.hardware_class if hardware_class is None else hardware_class
    return is_of_commit(CommitPosterior, Experiment.commit_sha, wanted)


def _rows(hardware_class: str | None) -> Select[*tuple[Any, ...]]:
    return (
        select(Finding, Experiment, CommitPosterior, Project.name, Branch.name, Volunteer.name, _outcome())
        .join(Experiment, Experiment.id == Finding.experiment_id)
        .join(Project, Project.id == Finding.project_id)
        .join(Branch, Branch.id == Experiment.branch_id)
        .join(Worker, Worker.id == Experiment.worker_id)
        .join(Volunteer, Volunteer.id == Worker.volunteer_id)
        .outerjoin(CommitPosterior, _is_posterior(hardware_class))
    )


def are_listed(filters: Filters) -> tuple[ColumnElement[bool], ...]:
    """Conditions that lists and searches have a finding."""
    states = [FindingState.PUBLISHED, *([FindingState.RETRACTED] if filters.with_retracted else [])]
    return Finding.state.in_(states), ~Finding.is_hidden


def list_of_experiments(session: Session, ids: Sequence[int], hardware_class: str | None) -> list[FindingRow]:
    """The findings of experiments, in the order of their numbers in `ids`."""
    rows = session.execute(_rows(hardware_class).where(Finding.experiment_id.in_(ids)))
    found = {row[0].experiment_id: FindingRow(*row) for row in rows}
    return [found[number] for number in ids if number in found]


def list_by_ids(session: Session, ids: Sequence[int], hardware_class: str | None = None) -> list[FindingRow]:
    """Findings in the order of their numbers in `ids`."""
    rows = session.execute(_rows(hardware_class).where(Finding.id.in_(ids)))
    found = {row[0].id: FindingRow(*row) for row in rows}
    return [found[finding_id] for finding_id in ids if finding_id in found]


def keep_fitting(session: Session, ids: Sequence[int], filters: Filters) -> set[int]:
    """Those of the findings, which are of the project, that the filters let through."""
    if not ids:
        return set()
    if filters.is_plain:
        return set(session.scalars(select(Finding.id).where(Finding.id.in_(ids), *are_listed(filters))))
    asked, fits = alias_fitting(session, Finding, filters, *are_listed(filters))
    return set(session.scalars(select(asked.id).where(asked.id.in_(ids), fits)))


def count_citations(session: Conn, ids: Sequence[int]) -> dict[int, int]:
    """How many experiments' agents had each finding to read, as far as MAX_COUNTED_CITATIONS."""
    found = _FINDINGS.c.id
    some = select(_CITATIONS.c.experiment_id).where(_CITATIONS.c.finding_id == found).correlate(_FINDINGS)
    count = select(func.count()).select_from(some.limit(MAX_COUNTED_CITATIONS).subquery())
    rows = session.execute(select(found, count.scalar_subquery()).where(found.in_(ids)))
    return {row[0]: row[1] for row in rows}


_TEXTS = select(Finding, Experiment).join(Experiment, Experiment.id == Finding.experiment_id)


def list_texts(session: Session, ids: Sequence[int]) -> list[tuple[Finding, Experiment]]:
    """Findings with their experiments, for the index of words."""
    return [(finding, experiment) for finding, experiment in session.execute(_TEXTS.where(Finding.id.in_(ids)))]


def list_of_topic(session: Conn, project_id: int, topic: str, limit: int) -> list[int]:
    """The newest findings of experiments on a topic."""
    query = select(Finding.id).join(Experiment, Experiment.id == Finding.experiment_id)
    query = query.where(Experiment.project_id == project_id, Experiment.topic == topic).where(IS_SHOWN)
    return [row.id for row in session.execute(query.order_by(Experiment.id.desc()).limit(limit))]


def list_newest(session: Conn, project_id: int, limit: int) -> Sequence[int]:
    query = select(Finding.id).where(Finding.project_id == project_id, IS_SHOWN)
    return session.scalars(query.order_by(Finding.id.desc()).limit(limit)).all()


def map_attempts(session: Conn, ids: Sequence[int]) -> dict[int, tuple[str, str, str, str]]:
    """Title, axis, direction and value of the experiments behind findings."""
    columns = Finding.id, Experiment.title, Experiment.axis, Experiment.direction, Experiment.value
    query = select(*columns).join(Experiment, Experiment.id == Finding.experiment_id).where(Finding.id.in_(ids))
    return {row.id: (row.title, row.axis, row.direction, row.value) for row in session.execute(query)}


def list_running_proposals(session: Conn, project_id: int) -> list[dict[str, Any]]:
    """Proposals that workers are at just now."""
    query = select(Lease.proposal).where(
        Lease.project_id == project_id, Lease.is_live_at(now()), Lease.proposal.is_not(None)
    )
    return [proposal for proposal in session.scalars(query.limit(MAX_RUNNING)) if proposal is not None]


def list_without_vector(
    session: Session, model: str, subject: str, after_id: int, limit: int
) -> list[tuple[Finding, Experiment]]:
    """Findings above `after_id` that have no vector of a model and were not deferred, in order of their numbers."""
    query = (
        _TEXTS.where(Finding.id > after_id, *_has_no_vector(Finding.id, model, subject))
        .order_by(Finding.id)
        .limit(limit)
    )
    return [(finding, experiment) for finding, experiment in session.execute(query)]


def count_without_vector(session: Conn, model: str, subject: str, after_id: int, limit: int) -> int:
    """As `list_without_vector`, the number of them among the newest `limit` findings."""
    newest = select(Finding.id).where(Finding.id > after_id).order_by(Finding.id.desc()).limit(limit).subquery()
    query = select(func.count()).select_from(newest).where(*_has_no_vector(newest.c.id, model, subject))
    return session.scalar(query) or 0


def _has_no_vector(finding_id: SQLColumnExpression[int], model: str, subject: str) -> tuple[ColumnElement[bool], ...]:
    """Conditions that a finding has no vector of a model, and that its words were not deferred."""
    key = cast(finding_id, String)
    has_one = exists().where(Embedding.subject == subject, Embedding.key == key, Embedding.model == model)
    return ~has_one, ~exists().where(DeferredText.subject == subject, DeferredText.key == key)


def find_newest_id(session: Conn) -> int:
    return session.scalar(select(func.max(Finding.id))) or 0


def list_project_ids(session: Conn) -> list[int]:
    return list(session.scalars(select(Project.id).order_by(Project.id)))
