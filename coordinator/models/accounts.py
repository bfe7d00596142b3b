"""Volunteers and their tokens."""

from datetime import datetime

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base, Sha256


class Volunteer(Base):
    """A person who lends machines. Roles other than `volunteer` are given by maintainers.

    `quarantine` is a maintainer's reason for not counting the runs of this volunteer's workers; None without one.
    """

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
