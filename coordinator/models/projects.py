"""Projects: one research question each, its job mix, and the log of what happened."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base, Sha, Sha256


class Project(Base):
    """`contract` is the text of `swarm.toml` as it stands in the root commit. `settings` are those of the newest
    version, a `shared.projects.ProjectSettings` in JSON; empty while they are the contract's, in version 0."""

    __tablename__ = "projects"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    title: Mapped[str] = mapped_column(String(200))
    question: Mapped[str] = mapped_column(Text)
    contract: Mapped[str] = mapped_column(Text)
    contract_version: Mapped[int]
    root_sha: Mapped[str] = mapped_column(Sha)
    settings: Mapped[str] = mapped_column(Text, default="")
    settings_version: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]


class StoredSettings(Base):
    """A version of a project's settings, which never changes."""

    __tablename__ = "project_versions"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    settings: Mapped[str] = mapped_column(Text)
    by: Mapped[str] = mapped_column(String(80))
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]


class KindShare(Base):
    """A kind's share of a project's experiments, from the runs up to `through_run_id`.

    `gain` is what experiments of the kind added to verified commits, in the metric's unit, positive where better;
    `gpu_seconds` is the time that all experiments of the kind took.
    """

    __tablename__ = "kind_shares"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    share: Mapped[float]
    gain: Mapped[float]
    gpu_seconds: Mapped[float]
    experiments: Mapped[int]
    through_run_id: Mapped[int]
    updated_at: Mapped[datetime]


class Event(Base):
    """One thing that happened. `id` is the cursor of the live feed.

    `numbered_at` is set by PostgreSQL, which gives ids before transactions commit; empty on SQLite and in old rows.
    """

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int | None] = mapped_column(ForeignKey("projects.id"), index=True)
    kind: Mapped[str] = mapped_column(String(40))
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    numbered_at: Mapped[datetime | None]


class NoticePosition(Base):
    """The last event that a target (the SHA-256 of its address) was told of, and what became of the next one.

    One process at a time tells it: until `claimed_until`. After `failures` in a row nothing is sent before `next_at`.
    """

    __tablename__ = "notice_positions"

    target: Mapped[str] = mapped_column(Sha256, primary_key=True)
    event_id: Mapped[int]
    claimed_until: Mapped[datetime]
    failures: Mapped[int]
    next_at: Mapped[datetime]
