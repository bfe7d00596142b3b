"""Rows to export, in batches by id: no transaction is open while a client reads, and memory stays flat."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, RowMapping, Select, Table, func, or_, select, tuple_
from sqlalchemy.orm import Session

from coordinator.db.engine import LabelledRow
from coordinator.models import (
    Branch,
    Citation,
    CommitPosterior,
    Experiment,
    Finding,
    ImportedSession,
    Project,
    Promotion,
    Run,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.models.base import is_of_class, is_of_commit
from coordinator.models.experiments import IS_FIRST_RUN, IS_POSTERIOR_OF_RUN, MEASURED
from shared.experiments import Posterior
from shared.export import (
    ExportedCitation,
    ExportedExperiment,
    ExportedFinding,
    ExportedPromotion,
    ExportedRun,
    ExportTable,
)
from shared.protocol import Message

_EXPERIMENTS, _RUNS, _FINDINGS = table_of(Experiment), table_of(Run), table_of(Finding)
_POSTERIORS, _BRANCHES, _PROJECTS = table_of(CommitPosterior), table_of(Branch), table_of(Project)
_WORKERS, _VOLUNTEERS, _CITATIONS = table_of(Worker), table_of(Volunteer), table_of(Citation)
_PROMOTIONS, _IMPORTED = table_of(Promotion), table_of(ImportedSession)
_NAMED = {
    "project": _PROJECTS.c.name,
    "branch": _BRANCHES.c.name,
    "worker": _WORKERS.c.name,
    "volunteer": _VOLUNTEERS.c.name,
    "sha": _EXPERIMENTS.c.commit_sha,
    "runs": _POSTERIORS.c.runs,
}


DERIVED = frozenset({"published_mean", "published_sd", "stored"})
"""Fields that no column holds."""


def _columns(model: type[Message], *tables: Table) -> list[Any]:
    """A model's fields as columns: as `_NAMED`, else that of the first table that has one of the name."""
    known = [{column.name: column for column in table.columns} for table in tables]
    places = ChainMap(dict(_NAMED), *known)
    return [places[name].label(name) for name in model.model_fields if name not in DERIVED]


OF_POSTERIOR = tuple(_POSTERIORS.c[name].label(f"posterior_{name}") for name in Posterior.model_fields)
"""A finding's posterior, from which the numbers in its words are written."""

_OWNED = _WORKERS.join(_VOLUNTEERS, _VOLUNTEERS.c.id == _WORKERS.c.volunteer_id)


class Source(NamedTuple):
    """Where a table's rows come from; `keys` are the columns that order them, the first of which grows with time."""

    keys: tuple[Column[int], ...]
    query: Select[*tuple[Any, ...]]


_OF_PROJECT = _EXPERIMENTS.join(_PROJECTS, _PROJECTS.c.id == _EXPERIMENTS.c.project_id)
_SOURCES = {
    ExportTable.EXPERIMENTS: Source(
        (_EXPERIMENTS.c.id,),
        select(*_columns(ExportedExperiment, _EXPERIMENTS, _RUNS, _POSTERIORS)).select_from(
            MEASURED.join(_PROJECTS, _PROJECTS.c.id == _EXPERIMENTS.c.project_id)
            .join(_BRANCHES, _BRANCHES.c.id == _EXPERIMENTS.c.branch_id)
            .join(_OWNED, _WORKERS.c.id == _EXPERIMENTS.c.worker_id)
        ),
    ),
    ExportTable.RUNS: Source(
        (_RUNS.c.id,),
        select(*_columns(ExportedRun, _RUNS)).select_from(
            _RUNS.join(_PROJECTS, _PROJECTS.c.id == _RUNS.c.project_id).join(_OWNED, _WORKERS.c.id == _RUNS.c.worker_id)
        ),
    ),
    ExportTable.FINDINGS: Source(
        (_FINDINGS.c.id,),
        select(*_columns(ExportedFinding, _FINDINGS), *OF_POSTERIOR, _RUNS.c.outcome.label("posterior_outcome"))
        .select_from(
            _FINDINGS.join(_OF_PROJECT, _EXPERIMENTS.c.id == _FINDINGS.c.experiment_id)
            .join(_RUNS, IS_FIRST_RUN)
            .outerjoin(_POSTERIORS, is_of_commit(_POSTERIORS.c, _EXPERIMENTS.c.commit_sha, _FINDINGS.c.hardware_class))
        )
        .where(~_FINDINGS.c.is_hidden),
    ),
    ExportTable.CITATIONS: Source(
        (_CITATIONS.c.experiment_id, _CITATIONS.c.finding_id),
        select(*_columns(ExportedCitation, _CITATIONS)).select_from(
            _CITATIONS.join(_OF_PROJECT, _EXPERIMENTS.c.id == _CITATIONS.c.experiment_id)
        ),
    ),
    ExportTable.PROMOTIONS: Source(
        (_PROMOTIONS.c.id,),
        select(*_columns(ExportedPromotion, _PROMOTIONS)).select_from(
            _PROMOTIONS.join(_PROJECTS, _PROJECTS.c.id == _PROMOTIONS.c.project_id)
        ),
    ),
}


def find_last_key(session: Session, table: ExportTable) -> int:
    """The newest row's first key, of whatever project; 0 without one."""
    return session.scalar(select(func.max(_SOURCES[table].keys[0]))) or 0


def list_rows(
    session: Session, table: ExportTable, project_id: int, after: Mapping[str, Any] | None, through: int, limit: int
) -> list[Mapping[str, Any]]:
    """The next rows of a project in the order of their keys, as the table's model names them."""
    keys, query = _SOURCES[table]
    query = query.where(_PROJECTS.c.id == project_id, keys[0] <= through)
    if after is not None:
        query = query.where(tuple_(*keys) > tuple_(*(after[key.name] for key in keys)))
    return [dict(row) for row in session.execute(query.order_by(*keys).limit(limit)).mappings()]


def list_results(
    session: Session, project_id: int, hardware_class: str, after_run_id: int, limit: int
) -> Sequence[LabelledRow]:
    """The root's first run and those of experiments in a class, by `run_id`, after one of them; the root's has no
    `description`."""
    first_of_root = select(func.min(_RUNS.c.id)).where(
        is_of_class(_RUNS.c, project_id, hardware_class), _RUNS.c.experiment_id.is_(None)
    )
    is_first = or_(IS_FIRST_RUN, _RUNS.c.id == first_of_root.scalar_subquery())
    query = (
        select(
            _RUNS.c.id.label("run_id"), _RUNS.c.commit_sha.label("sha"), _RUNS.c.metric, _RUNS.c.outcome,
            _RUNS.c.peak_memory_mib, _POSTERIORS.c.verdict, _EXPERIMENTS.c.title.label("description"),
        )
        .select_from(
            _RUNS.outerjoin(_EXPERIMENTS, _EXPERIMENTS.c.id == _RUNS.c.experiment_id)
            .outerjoin(_POSTERIORS, IS_POSTERIOR_OF_RUN)
        )
        .where(is_of_class(_RUNS.c, project_id, hardware_class), is_first)
        .where(_RUNS.c.id > after_run_id)
        .order_by(_RUNS.c.id)
        .limit(limit)
    )  # fmt: skip
    return session.execute(query).all()


def find_cited(session: Session, finding_id: int) -> RowMapping | None:
    """The fields of a citation of a finding."""
    query = (
        select(
            _PROJECTS.c.name.label("project"), _FINDINGS.c.agent,
            func.coalesce(_VOLUNTEERS.c.cited_as, _VOLUNTEERS.c.name).label("volunteer"), _EXPERIMENTS.c.commit_sha,
            _FINDINGS.c.experiment_id,
            _EXPERIMENTS.c.done_at, _IMPORTED.c.project_id.is_not(None).label("is_imported"),
        )
        .select_from(
            _FINDINGS.join(_OF_PROJECT, _EXPERIMENTS.c.id == _FINDINGS.c.experiment_id)
            .join(_OWNED, _WORKERS.c.id == _EXPERIMENTS.c.worker_id)
            .outerjoin(_IMPORTED, _IMPORTED.c.worker_id == _EXPERIMENTS.c.worker_id)
        )
        .where(_FINDINGS.c.id == finding_id)
    )  # fmt: skip
    return session.execute(query).mappings().one_or_none()
