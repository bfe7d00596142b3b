"""Volunteers, their tokens and their workers."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base, Sha256
from shared.workers import WorkerState


class Volunteer(Base):
    """A person who lends machines. `quarantine` is a maintainer's reason for not counting the runs of their workers."""

    __tablename__ = "volunteers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    role: Mapped[str] = mapped_column(String(20), default="volunteer")
    quarantine: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]


class Token(Base):
    """A bearer token; only its SHA-256 is stored. It counts until `revoked_at`."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    volunteer_id: Mapped[int] = mapped_column(ForeignKey("volunteers.id"), index=True)
    sha256: Mapped[str] = mapped_column(Sha256, unique=True)
    label: Mapped[str] = mapped_column(String(80))
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class Worker(Base):
    """A worker as it described itself at its last claim. In quarantine its runs do not count, and it gets no job.

    Maintainers trust an anchor to verify what others found. `state` is the one that it last reported.
    """

    __tablename__ = "workers"
    __table_args__ = (UniqueConstraint("volunteer_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    volunteer_id: Mapped[int] = mapped_column(ForeignKey("volunteers.id"))
    name: Mapped[str] = mapped_column(String(200))
    agent: Mapped[str] = mapped_column(String(80))
    hardware: Mapped[dict[str, Any]]
    hardware_class: Mapped[str] = mapped_column(String(200), index=True)
    quarantine: Mapped[str | None] = mapped_column(Text)
    is_anchor: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(String(20), default=WorkerState.WORKING)
    state_reason: Mapped[str] = mapped_column(Text, default="")
    state_at: Mapped[datetime]
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
