"""Findings, what was written beside them, and who read them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, Text, and_, text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base, table_of
from shared.findings import FindingState

_HAS_FAILED = text("failure IS NOT NULL")


class Finding(Base):
    """The agent's own words on one experiment, in their newest version.

    Its numbers are never stored here, but for what its author knew when writing: `written_*` is the effect in
    `hardware_class`, that of the experiment's first run, after that run. `failure` is a `FailureClass`, as far as the
    run itself shows it. `pace` is that run's tokens a second over its parent's, None where one of the two is not known,
    or the finding is from before it was kept. `version` counts from 1. `state` says whether it was retracted; it
    `is_hidden` while its author is in quarantine, whatever its state.
    """

    __tablename__ = "findings"
    __table_args__ = (
        Index("ix_findings_project_id_id", "project_id", "id"),
        Index("ix_findings_class", "project_id", "hardware_class", "id"),
        Index("ix_findings_class_experiment", "project_id", "hardware_class", "experiment_id"),
        Index(
            "ix_findings_failed",
            "project_id",
            "failure",
            "experiment_id",
            sqlite_where=_HAS_FAILED,
            postgresql_where=_HAS_FAILED,
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id"), unique=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    hardware_class: Mapped[str] = mapped_column(String(200))
    claim: Mapped[str] = mapped_column(String(200))
    mechanism: Mapped[str] = mapped_column(Text)
    caveats: Mapped[str] = mapped_column(Text)
    refuted_by: Mapped[str] = mapped_column(Text)
    follow_ups: Mapped[str] = mapped_column(Text)
    tags: Mapped[list[Any]]
    agent: Mapped[str] = mapped_column(String(80))
    version: Mapped[int]
    state: Mapped[str] = mapped_column(String(20))
    is_hidden: Mapped[bool] = mapped_column(default=False)
    failure: Mapped[str | None] = mapped_column(String(20))
    pace: Mapped[float | None]
    written_effect_mean: Mapped[float | None]
    written_effect_sd: Mapped[float | None]
    written_verdict: Mapped[str | None] = mapped_column(String(20))
    created_at: Mapped[datetime]


_FINDINGS = table_of(Finding)
IS_SHOWN = and_(_FINDINGS.c.state == FindingState.PUBLISHED, ~_FINDINGS.c.is_hidden)
"""That lists, searches and context packs have a finding."""


class FindingVersion(Base):
    """Earlier words of a finding (a `shared.findings.Finding`). `key` is that of the request that replaced them."""

    __tablename__ = "finding_versions"

    finding_id: Mapped[int] = mapped_column(ForeignKey("findings.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    words: Mapped[dict[str, Any]]
    key: Mapped[UUID] = mapped_column(unique=True)
    replaced_at: Mapped[datetime]


class FindingTag(Base):
    """A tag of a finding's newest version."""

    __tablename__ = "finding_tags"

    tag: Mapped[str] = mapped_column(String(63), primary_key=True)
    finding_id: Mapped[int] = mapped_column(ForeignKey("findings.id"), primary_key=True, index=True)


class FindingNote(Base):
    """A note beside a finding, a retraction or its taking back (a `NoteKind`). Never changed, never removed."""

    __tablename__ = "finding_notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    finding_id: Mapped[int] = mapped_column(ForeignKey("findings.id"), index=True)
    volunteer_id: Mapped[int] = mapped_column(ForeignKey("volunteers.id"))
    kind: Mapped[str] = mapped_column(String(20))
    text: Mapped[str] = mapped_column(Text)
    key: Mapped[UUID] = mapped_column(unique=True)
    created_at: Mapped[datetime]


class Citation(Base):
    """A finding that was in the context pack of an experiment."""

    __tablename__ = "citations"

    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id"), primary_key=True)
    finding_id: Mapped[int] = mapped_column(ForeignKey("findings.id"), primary_key=True, index=True)
