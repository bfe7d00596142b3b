"""Questions across a project's tables; nothing here writes."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import RowMapping, and_, func, select
from sqlalchemy.orm import Session

from coordinator.models import Commit, CommitPosterior, EvidenceEpoch, Experiment, Run, Worker, table_of
from shared.experiments import Standing

_EXPERIMENTS, _RUNS = table_of(Experiment), table_of(Run)


def list_classes(session: Session, project_id: int) -> Sequence[RowMapping]:
    """Hardware classes that a project was measured in, as `HardwareClass` names their columns; most runs first."""
    count = func.count(_RUNS.c.id)
    epochs = table_of(EvidenceEpoch)
    is_epoch = and_(epochs.c.project_id == _RUNS.c.project_id, epochs.c.hardware_class == _RUNS.c.hardware_class)
    query = (
        select(
            _RUNS.c.hardware_class.label("name"), count.label("runs"),
            func.count(_RUNS.c.worker_id.distinct()).label("workers"), func.max(epochs.c.noise_sd).label("noise_sd"),
            func.max(epochs.c.number).label("epoch"), func.max(_RUNS.c.created_at).label("newest_run_at"),
        )
        .select_from(_RUNS.outerjoin(epochs, is_epoch))
        .where(_RUNS.c.project_id == project_id)
        .group_by(_RUNS.c.hardware_class)
        .order_by(count.desc(), _RUNS.c.hardware_class)
    )  # fmt: skip
    return session.execute(query).mappings().all()


def find_best(session: Session, project_id: int, hardware_class: str, *, verified: bool) -> CommitPosterior | None:
    """The commit with the best posterior mean: among those that are verified, or all that do not wait for somebody."""
    uncounted = Standing.HELD, Standing.REJECTED
    standing = CommitPosterior.standing
    allowed = standing == Standing.VERIFIED if verified else standing.not_in(uncounted)
    query = select(CommitPosterior).where(
        CommitPosterior.project_id == project_id, CommitPosterior.hardware_class == hardware_class, allowed
    )
    return session.scalar(query.order_by(CommitPosterior.rank_score, CommitPosterior.commit_sha).limit(1))


def find_commits(session: Session, prefix: str, project_id: int | None) -> Sequence[Commit]:
    """Commits whose sha begins so, at most two: more than one is no answer."""
    query = select(Commit).where(Commit.sha >= prefix, Commit.sha < prefix + "g")
    if project_id is not None:
        query = query.where(Commit.project_id == project_id)
    return session.scalars(query.order_by(Commit.sha).limit(2)).all()


class StepRow(NamedTuple):
    """A commit with what made it; None throughout for the root."""

    commit: Commit
    experiment: Experiment | None
    worker: str | None
    hardware_class: str | None


def list_steps(session: Session, shas: Sequence[str]) -> list[StepRow]:
    """Commits with their experiments, the deepest first."""
    first_run = select(func.min(_RUNS.c.id)).where(_RUNS.c.commit_sha == Commit.sha).correlate(Commit)
    query = (
        select(Commit, Experiment, Worker.name, _RUNS.c.hardware_class)
        .outerjoin(Experiment, Experiment.commit_sha == Commit.sha)
        .outerjoin(Worker, Worker.id == Experiment.worker_id)
        .outerjoin(_RUNS, _RUNS.c.id == first_run.scalar_subquery())
        .where(Commit.sha.in_(shas))
        .order_by(Commit.depth.desc())
    )
    return [StepRow(*row) for row in session.execute(query)]


def list_posteriors(session: Session, shas: Sequence[str]) -> Sequence[CommitPosterior]:
    """All posteriors of some commits, by class."""
    query = select(CommitPosterior).where(CommitPosterior.commit_sha.in_(shas))
    return session.scalars(query.order_by(CommitPosterior.hardware_class)).all()


def find_titles(session: Session, shas: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Id and title of the experiments that made these commits."""
    query = select(_EXPERIMENTS.c.commit_sha, _EXPERIMENTS.c.id, _EXPERIMENTS.c.title)
    return {sha: (id_, title) for sha, id_, title in session.execute(query.where(_EXPERIMENTS.c.commit_sha.in_(shas)))}
