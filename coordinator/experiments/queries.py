"""Questions about experiments. Rows join what a list shows, so that a page is one query."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, func, insert, select, update
from sqlalchemy.orm import Session, aliased, undefer

from coordinator.db.engine import Conn
from coordinator.models import (
    WORKER_NAME,
    AssembledStep,
    Branch,
    Commit,
    CommitPosterior,
    Experiment,
    Finding,
    Project,
    Run,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.models.base import is_of_class
from coordinator.models.experiments import IS_FIRST_RUN, IS_POSTERIOR_OF_RUN, MEASURED
from shared.experiments import Standing, Trial

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
    has_code: bool


def _rows() -> Select[*tuple[Any, ...]]:
    return (
        select(
            Experiment,
            Run,
            CommitPosterior,
            Branch.name,
            WORKER_NAME,
            _ParentExperiment.id,
            func.coalesce(Volunteer.quarantine, Worker.quarantine),
            Commit.has_code,
        )
        .join(Commit, Commit.sha == Experiment.commit_sha)
        .join(Run, IS_FIRST_RUN)
        .join(Branch, Branch.id == Experiment.branch_id)
        .join(Worker, Worker.id == Experiment.worker_id)
        .join(Volunteer, Volunteer.id == Worker.volunteer_id)
        .outerjoin(CommitPosterior, IS_POSTERIOR_OF_RUN)
        .outerjoin(_ParentExperiment, _ParentExperiment.commit_sha == Experiment.parent_sha)
        .options(undefer(Run.metrics))
    )


def find_experiment(session: Session, experiment_id: int) -> ExperimentRow | None:
    row = session.execute(_rows().where(Experiment.id == experiment_id)).one_or_none()
    return ExperimentRow(*row) if row else None


def find_finding(session: Session, experiment_id: int) -> Finding | None:
    """The text that an experiment's agent wrote."""
    return session.scalar(select(Finding).where(Finding.experiment_id == experiment_id))


def list_rows(session: Session, ids: Sequence[int]) -> list[ExperimentRow]:
    """Experiments in the order of their numbers in `ids`."""
    found = {row[0].id: ExperimentRow(*row) for row in session.execute(_rows().where(Experiment.id.in_(ids)))}
    return [found[number] for number in ids if number in found]


def list_best(
    session: Session, project_id: int, hardware_class: str, sign: float, limit: int
) -> list[tuple[int, dict[str, Any], float]]:
    """The experiments with the best metrics in a class, the best first: number, settings, metric. Those that
    maintainers must decide on, or rejected, are left out. `sign` is 1 where lower is better, else -1."""
    value = _POSTERIORS.c.metric_mean
    query = select(_EXPERIMENTS.c.id, _EXPERIMENTS.c.settings, value)
    query = query.join(_POSTERIORS, _POSTERIORS.c.commit_sha == _EXPERIMENTS.c.commit_sha)
    query = query.where(is_of_class(_POSTERIORS.c, project_id, hardware_class))
    query = query.where(_POSTERIORS.c.standing.not_in((Standing.HELD, Standing.REJECTED)))
    order = (value, _POSTERIORS.c.commit_sha) if sign > 0 else (value.desc(), _POSTERIORS.c.commit_sha.desc())
    rows = session.execute(query.order_by(*order).limit(limit))
    return [(number, settings, metric) for number, settings, metric in rows]


def list_of_volunteer(session: Session, volunteer_id: int, limit: int) -> list[tuple[ExperimentRow, str]]:
    """The newest experiments by a volunteer's workers, each with its project's name."""
    own = session.scalars(select(Worker.id).where(Worker.volunteer_id == volunteer_id)).all()
    newest = select(Experiment.id).where(Experiment.worker_id.in_(own)).order_by(Experiment.id.desc()).limit(limit)
    # In steps: PostgreSQL would read all experiments, looking for them.
    ids = session.scalars(newest).all() if own else []
    query = _rows().add_columns(Project.name).join(Project, Project.id == Experiment.project_id)
    query = query.where(Experiment.id.in_(ids)).order_by(Experiment.id.desc())
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
    .where(is_of_class(_FINDINGS.c), ~_FINDINGS.c.is_hidden)
    .order_by(_FINDINGS.c.experiment_id.desc())
    .limit(bindparam("limit"))
)


def list_trials(session: Conn, project_id: int, hardware_class: str, limit: int) -> list[dict[str, Any]]:
    """The newest experiments, newest first, without those of authors in quarantine, as `shared.experiments.Trial` names
    their columns."""
    given = {"project_id": project_id, "hardware_class": hardware_class, "limit": limit}
    return [dict(zip(Trial.model_fields, row, strict=True)) for row in session.execute(_TRIALS, given).all()]


_MOVE = update(_EXPERIMENTS).where(_EXPERIMENTS.c.id == bindparam("experiment_id"))
_ADD = insert(_EXPERIMENTS).returning(_EXPERIMENTS.c.id)


def add_experiment(session: Conn, columns: Mapping[str, Any]) -> int:
    """Add a row; returns its id."""
    return int(session.scalar(_ADD, columns))


def move_to_branch(session: Conn, experiment_id: int, branch_id: int) -> None:
    session.execute(_MOVE, {"experiment_id": experiment_id, "branch_id": branch_id})


def add_steps(session: Conn, experiment_id: int, fates: Mapping[int, str]) -> None:
    """Store what became of other experiments' steps in this one."""
    if fates:
        rows = [{"experiment_id": experiment_id, "step_id": step, "fate": fate} for step, fate in fates.items()]
        session.execute(insert(table_of(AssembledStep)), rows)


def list_steps(session: Conn, experiment_id: int) -> list[tuple[int, str]]:
    """The experiments whose steps an experiment was put together from, with what became of each."""
    query = select(AssembledStep.step_id, AssembledStep.fate).where(AssembledStep.experiment_id == experiment_id)
    return [(step, fate) for step, fate in session.execute(query.order_by(AssembledStep.step_id))]
