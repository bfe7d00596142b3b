"""Questions across a project's tables; nothing here writes."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table, case, func, select, union_all
from sqlalchemy.orm import Session

from coordinator.db.engine import LabelledRow
from coordinator.evidence.run_stats import list_hardware_classes
from coordinator.models import (
    WORKER_NAME,
    Calibration,
    Commit,
    CommitPosterior,
    EvidenceEpoch,
    Experiment,
    Run,
    Volunteer,
    Worker,
    table_of,
)
from coordinator.models.base import is_of_class, is_of_commit, is_of_same_class
from shared.experiments import Standing

_EXPERIMENTS, _RUNS, _POSTERIORS = table_of(Experiment), table_of(Run), table_of(CommitPosterior)

ROOT_TITLE = "the project's seed, unchanged"


def list_classes(session: Session, project_id: int) -> list[dict[str, Any]]:
    """Hardware classes that a project was measured in, as `HardwareClass` names their columns; most runs first."""
    epochs, calibrations = table_of(EvidenceEpoch), table_of(Calibration)

    def of_class(table: Table) -> ColumnElement[bool]:
        return is_of_same_class(table.c, epochs.c)

    newest = select(func.max(_RUNS.c.id)).where(of_class(_RUNS)).correlate(epochs).scalar_subquery()
    query = select(
        epochs.c.hardware_class.label("name"), epochs.c.noise_sd, epochs.c.number.label("epoch"),
        select(func.count()).where(of_class(calibrations)).correlate(epochs).scalar_subquery().label("workers"),
        select(_RUNS.c.finished_at).where(_RUNS.c.id == newest).scalar_subquery().label("newest_run_at"),
    ).where(epochs.c.project_id == project_id)  # fmt: skip
    found = {row["name"]: dict(row) for row in session.execute(query).mappings()}
    return [found[one.name] | {"runs": one.runs} for one in list_hardware_classes(session, project_id)]


def count_members(session: Session, project_id: int, hardware_class: str) -> LabelledRow:
    """The `volunteers` who measured in a class, and those of them with one of the `anchors` on which the seed runs."""
    is_able = Worker.is_anchor & (Calibration.jobs_done > Calibration.seed_failed)
    anchors = func.count(case((is_able, Calibration.volunteer_id)).distinct())
    query = (
        select(func.count(Calibration.volunteer_id.distinct()).label("volunteers"), anchors.label("anchors"))
        .join(Worker, Worker.id == Calibration.worker_id)
        .where(is_of_class(Calibration, project_id, hardware_class))
    )
    return session.execute(query).one()


_RANKED = [standing for standing in Standing if standing not in (Standing.HELD, Standing.REJECTED)]


def find_best(session: Session, project_id: int, hardware_class: str, *, verified: bool) -> CommitPosterior | None:
    """The commit with the best posterior mean: among those that are verified, or all that do not wait for somebody."""
    of_class = _POSTERIORS.c.project_id == project_id, _POSTERIORS.c.hardware_class == hardware_class
    order = _POSTERIORS.c.rank_score, _POSTERIORS.c.commit_sha
    # The index gives the best one of each standing; a condition on several would read and sort the whole class.
    bests = [
        select(select(*order).where(*of_class, _POSTERIORS.c.standing == standing).order_by(*order).limit(1).subquery())
        for standing in ([Standing.VERIFIED] if verified else _RANKED)
    ]
    sha = select(union_all(*bests).subquery()).order_by("rank_score", "commit_sha").limit(1).subquery()
    query = select(CommitPosterior).where(
        is_of_commit(CommitPosterior, select(sha.c.commit_sha).scalar_subquery(), hardware_class)
    )
    return session.scalar(query)


def find_commits(session: Session, prefix: str, project_id: int | None) -> Sequence[Commit]:
    """Commits whose sha begins so, at most two: more than one is no answer."""
    query = select(Commit).where(Commit.sha >= prefix, Commit.sha < prefix + "g")
    if project_id is not None:  # compared afterwards: else SQLite would go through all of the project's commits
        query = query.where(Commit.project_id + 0 == project_id)
    return session.scalars(query.order_by(Commit.sha).limit(2)).all()


def find_commit_of(session: Session, experiment_id: int) -> Commit | None:
    """The commit that an experiment made."""
    query = select(Commit).join(Experiment, Experiment.commit_sha == Commit.sha)
    return session.scalar(query.where(Experiment.id == experiment_id))


def list_steps(session: Session, shas: Sequence[str]) -> Sequence[LabelledRow]:
    """Commits, the deepest first, with columns as `LineageStep` names them; the root's have no experiment."""
    own = select(_RUNS.c.hardware_class).where(_RUNS.c.commit_sha == Commit.sha)
    # By the number alone PostgreSQL goes through all runs from the first on, unless its statistics advise against it.
    of_first_run = own.order_by(_RUNS.c.id + 0).limit(1)
    first_class = of_first_run.correlate(Commit).scalar_subquery().label("hardware_class")
    query = (
        select(
            *(Commit.sha, Commit.parent_sha, Commit.depth, Commit.created_at, Commit.project_id),
            *(Experiment.id.label("experiment_id"), func.coalesce(Experiment.title, ROOT_TITLE).label("title")),
            *(func.coalesce(column, "").label(column.key) for column in (Experiment.axis, Experiment.value)),
            *(func.coalesce(WORKER_NAME, "").label("worker"), first_class),
        )
        .select_from(Commit)
        .outerjoin(Experiment, Experiment.commit_sha == Commit.sha)
        .outerjoin(Worker, Worker.id == Experiment.worker_id)
        .outerjoin(Volunteer, Volunteer.id == Worker.volunteer_id)
        .where(Commit.sha.in_(shas))
        .order_by(Commit.depth.desc())
    )
    return session.execute(query).all()


def list_posteriors(session: Session, shas: Sequence[str]) -> Sequence[CommitPosterior]:
    """All posteriors of some commits, by class."""
    query = select(CommitPosterior).where(CommitPosterior.commit_sha.in_(shas))
    return session.scalars(query.order_by(CommitPosterior.hardware_class)).all()


def find_titles(session: Session, shas: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Id and title of the experiments that made these commits."""
    query = select(_EXPERIMENTS.c.commit_sha, _EXPERIMENTS.c.id, _EXPERIMENTS.c.title)
    return {sha: (id_, title) for sha, id_, title in session.execute(query.where(_EXPERIMENTS.c.commit_sha.in_(shas)))}
