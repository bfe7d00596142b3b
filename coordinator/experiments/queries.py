"""Questions about experiments. Rows join what a list shows, so that a page is one query."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, func, insert, select, update
from sqlalchemy.orm import Session, aliased

from coordinator.models import (
    AssembledStep,
    Branch,
    CommitPosterior,
    Experiment,
    Finding,
    Project,
    Run,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.models.experiments import IS_FIRST_RUN, IS_POSTERIOR_OF_RUN, MEASURED
from shared.experiments import Trial

_ParentExperiment = aliased(Experiment)


class ExperimentRow(NamedTuple):
    """An experiment with its first run, its posterior in that run's hardware class, and its parent's number."""

    experiment: Experiment
    run: Run
    posterior: CommitPosterior | None
    branch: str
    worker: str
    parent_id: int | None
    quarantine: str | None


def _rows() -> Select[*tuple[Any, ...]]:
    return (
        select(
            Experiment,
            Run,
            CommitPosterior,
            Branch.name,
            Worker.name,
            _ParentExperiment.id,
            func.coalesce(Volunteer.quarantine, Worker.quarantine),
        )
        .join(Run, IS_FIRST_RUN)
        .join(Branch, Branch.id == Experiment.branch_id)
        .join(Worker, Worker.id == Experiment.worker_id)
        .join(Volunteer, Volunteer.id == Worker.volunteer_id)
        .outerjoin(CommitPosterior, IS_POSTERIOR_OF_RUN)
        .outerjoin(_ParentExperiment, _ParentExperiment.commit_sha == Experiment.parent_sha)
    )


def find_experiment(session: Session, experiment_id: int) -> ExperimentRow | None:
    row = session.execute(_rows().where(Experiment.id == experiment_id)).one_or_none()
    return ExperimentRow(*row) if row else None


def find_finding(session: Session, experiment_id: int) -> Finding | None:
    """The text that an experiment's agent wrote."""
    return session.scalar(select(Finding).where(Finding.experiment_id == experiment_id))


def list_experiments(
    session: Session, project_id: int, before_id: int | None, limit: int, hardware_class: str | None = None
) -> list[ExperimentRow]:
    """Experiments of a project, newest first, older than `before_id`, measured first in `hardware_class` if given."""
    query, own_id = _rows().where(Experiment.project_id == project_id), Experiment.id
    if hardware_class is not None:  # findings know it, and have an index by it
        own_id = Finding.experiment_id
        query = query.join(Finding, Finding.experiment_id == Experiment.id).where(
            Finding.project_id == project_id, Finding.hardware_class == hardware_class
        )
    if before_id is not None:
        query = query.where(own_id < before_id)
    return [ExperimentRow(*row) for row in session.execute(query.order_by(own_id.desc()).limit(limit))]


def list_of_volunteer(session: Session, volunteer_id: int, limit: int) -> list[tuple[ExperimentRow, str]]:
    """The newest experiments by a volunteer's workers, each with its project's name."""
    own = select(Worker.id).where(Worker.volunteer_id == volunteer_id)
    query = _rows().add_columns(Project.name).join(Project, Project.id == Experiment.project_id)
    query = query.where(Experiment.worker_id.in_(own)).order_by(Experiment.id.desc()).limit(limit)
    return [(ExperimentRow(*row[:-1]), row[-1]) for row in session.execute(query)]


_EXPERIMENTS, _RUNS, _POSTERIORS, _FINDINGS = (table_of(model) for model in (Experiment, Run, CommitPosterior, Finding))
_TRIALS = (
    select(
        *(_EXPERIMENTS.c[name] for name in ("commit_sha", "parent_sha", "title", "axis", "settings")),
        _POSTERIORS.c.metric_mean,
        _POSTERIORS.c.metric_sd,
        _RUNS.c.outcome,
    )
    .select_from(MEASURED.join(_FINDINGS, _FINDINGS.c.experiment_id == _EXPERIMENTS.c.id))
    .where(_FINDINGS.c.project_id == bindparam("project_id"))
    .where(_FINDINGS.c.hardware_class == bindparam("hardware_class"))
    .where(~_FINDINGS.c.is_hidden)
    .order_by(_FINDINGS.c.experiment_id.desc())
    .limit(bindparam("limit"))
)


def list_trials(session: Session, project_id: int, hardware_class: str, limit: int) -> list[dict[str, Any]]:
    """The newest experiments, newest first, without those of authors in quarantine, as `shared.experiments.Trial` names
    their columns."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "limit": limit}
    return [dict(zip(Trial.model_fields, row, strict=True)) for row in session.execute(_TRIALS, given).all()]


_MOVE = update(_EXPERIMENTS).where(_EXPERIMENTS.c.id == bindparam("experiment_id"))
_ADD = insert(_EXPERIMENTS).returning(_EXPERIMENTS.c.id)


def add_experiment(session: Session, columns: Mapping[str, Any]) -> int:
    """Add a row; returns its id."""
    return int(session.scalar(_ADD, columns))


def move_to_branch(session: Session, experiment_id: int, branch_id: int) -> None:
    session.execute(_MOVE, {"experiment_id": experiment_id, "branch_id": branch_id})


def add_steps(session: Session, experiment_id: int, fates: Mapping[int, str]) -> None:
    """Store what became of other experiments' steps in this one."""
    if fates:
        rows = [{"experiment_id": experiment_id, "step_id": step, "fate": fate} for step, fate in fates.items()]
        session.execute(insert(table_of(AssembledStep)), rows)


def list_steps(session: Session, experiment_id: int) -> list[tuple[int, str]]:
    """The experiments whose steps an experiment was put together from, with what became of each."""
    query = select(AssembledStep.step_id, AssembledStep.fate).where(AssembledStep.experiment_id == experiment_id)
    return [(step, fate) for step, fate in session.execute(query.order_by(AssembledStep.step_id))]
