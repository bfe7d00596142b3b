"""Experiments, imported ones included, the embeddings of their proposals, and what queries of measurements share."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, and_, func, select
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base, Sha, is_one_of, table_of
from coordinator.models.evidence import CommitPosterior, Run
from shared.experiments import JobKind
from shared.runs import RunOutcome


class Experiment(Base):
    """One commit and the proposal behind it. `predicted_effect` is in the metric's unit, child minus parent.

    `insists` is the agent's reason to run it although it was told of something much like it. `topic` is the axis as it
    stands in addresses: experiments of one topic change the same thing. `created_at` is when it was stored here, and
    `done_at` when it was done, None where an imported session does not say it.
    """

    __tablename__ = "experiments"
    __table_args__ = (
        Index("ix_experiments_project_id_id", "project_id", "id"),
        Index("ix_experiments_worker_id_id", "worker_id", "id"),
        Index("ix_experiments_topic", "project_id", "topic", "id"),
        Index("ix_experiments_branch_id_id", "branch_id", "id"),
        Index("ix_experiments_done", "project_id", "done_at", "id"),
        Index("ix_experiments_kind", "project_id", "kind", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    commit_sha: Mapped[str] = mapped_column(ForeignKey("commits.sha"), unique=True)
    parent_sha: Mapped[str] = mapped_column(ForeignKey("commits.sha"), index=True)
    branch_id: Mapped[int] = mapped_column(ForeignKey("branches.id"))
    lease_id: Mapped[UUID] = mapped_column(ForeignKey("leases.id"), index=True)
    worker_id: Mapped[int] = mapped_column(ForeignKey("workers.id"))
    kind: Mapped[str] = mapped_column(String(20))
    title: Mapped[str] = mapped_column(String(200))
    hypothesis: Mapped[str] = mapped_column(Text)
    axis: Mapped[str] = mapped_column(String(200))
    topic: Mapped[str] = mapped_column(String(80))
    direction: Mapped[str] = mapped_column(String(20))
    value: Mapped[str] = mapped_column(String(200))
    predicted_effect: Mapped[float | None]
    refuted_by: Mapped[str] = mapped_column(Text)
    settings: Mapped[dict[str, Any]]
    insists: Mapped[str] = mapped_column(Text, default="")
    why: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    done_at: Mapped[datetime | None]


class AssembledStep(Base):
    """A step that an experiment was asked to adopt, or to take out, and what became of it (a `StepFate`)."""

    __tablename__ = "assembled_steps"

    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id"), primary_key=True)
    step_id: Mapped[int] = mapped_column(ForeignKey("experiments.id"), primary_key=True, index=True)
    fate: Mapped[str] = mapped_column(String(20))


class ImportedSession(Base):
    """A project that came from a session: the repository's branch, and the commit there that it begins with."""

    __tablename__ = "imported_sessions"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    source: Mapped[str] = mapped_column(String(200))
    branch: Mapped[str] = mapped_column(String(200))
    source_sha: Mapped[str] = mapped_column(Sha)
    worker_id: Mapped[int] = mapped_column(ForeignKey("workers.id"))
    imported_at: Mapped[datetime]


class ImportedLine(Base):
    """A line of the session's `results.tsv`, unchanged; the header is line 1. `problem` says why it has no run."""

    __tablename__ = "imported_lines"

    project_id: Mapped[int] = mapped_column(ForeignKey("imported_sessions.project_id"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    run_id: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))
    problem: Mapped[str | None] = mapped_column(Text)


class Embedding(Base):
    """A text's vector by one model: 32-bit numbers, little-endian, of length one. A `proposal`'s `key` is its lease."""

    __tablename__ = "embeddings"
    __table_args__ = (UniqueConstraint("subject", "key", "model"), Index("ix_embeddings_model_id", "model", "id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    subject: Mapped[str] = mapped_column(String(20))
    key: Mapped[str] = mapped_column(String(36))
    model: Mapped[str] = mapped_column(String(120))
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class DeferredText(Base):
    """A text that gets its vector later, in `parts` that weigh the same. `subject` and `key` are an embedding's."""

    __tablename__ = "deferred_texts"
    __table_args__ = (Index("ix_deferred_texts_subject_key", "subject", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    subject: Mapped[str] = mapped_column(String(20))
    key: Mapped[str] = mapped_column(String(36))
    parts: Mapped[list[Any]]


_EXPERIMENTS, _RUNS, _POSTERIORS = table_of(Experiment), table_of(Run), table_of(CommitPosterior)
_FIRST_RUN = select(func.min(_RUNS.c.id)).where(_RUNS.c.experiment_id == _EXPERIMENTS.c.id).correlate(_EXPERIMENTS)

_IS_OK = and_(_RUNS.c.outcome == RunOutcome.OK, _RUNS.c.metric.is_not(None), _RUNS.c.counts)
IS_MEASUREMENT = and_(_IS_OK, ~is_one_of(_RUNS.c.kind, [kind for kind in JobKind if not kind.is_evidence]))
"""That a run is evidence on its commit: it takes part in choosing, ranking and verifying it."""

IS_CONFIRMATION = and_(_IS_OK, _RUNS.c.kind == JobKind.CONFIRM)
IS_FIRST_RUN = _RUNS.c.id == _FIRST_RUN.scalar_subquery()
"""That a run is its experiment's first."""

IS_POSTERIOR_OF_RUN = and_(
    _POSTERIORS.c.commit_sha == _RUNS.c.commit_sha, _POSTERIORS.c.hardware_class == _RUNS.c.hardware_class
)
MEASURED = _EXPERIMENTS.join(_RUNS, IS_FIRST_RUN).outerjoin(_POSTERIORS, IS_POSTERIOR_OF_RUN)
"""Experiments with their first run, and their posterior in its hardware class."""
