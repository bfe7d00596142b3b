"""The history of projects: an append-only log of results, papers and decisions, and what signs it."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base

_PENDING = text("number IS NULL")
IS_PENDING = text("history_entries.number IS NULL")
"""That an entry has no place in its log yet, as SQLite must read it to use the index."""


class HistoryEntry(Base):
    """An entry of a project's log (a `shared.history.LeafKind`), added in the transaction of what it is about.

    `number` is its place, counted from 0, and `leaf` its line; both are given by the sequencer, and never change.
    `subtrees` are the hashes of the subtrees that it completes, by level, 32 bytes each.
    """

    __tablename__ = "history_entries"
    __table_args__ = (
        UniqueConstraint("project_id", "number"),
        UniqueConstraint("kind", "subject_id", "version"),
        Index("ix_history_entries_pending", "id", sqlite_where=_PENDING, postgresql_where=_PENDING),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    kind: Mapped[str] = mapped_column(String(20))
    subject_id: Mapped[int | None]
    version: Mapped[int] = mapped_column(default=1)
    number: Mapped[int | None]
    leaf: Mapped[str | None] = mapped_column(Text)
    subtrees: Mapped[bytes | None] = mapped_column(LargeBinary)


class HistoryHead(Base):
    """The newest checkpoint of a project's log: a signed note."""

    __tablename__ = "history_heads"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    size: Mapped[int]
    note: Mapped[str] = mapped_column(Text)
    signed_at: Mapped[datetime]


class HistoryKey(Base):
    """A key that signs checkpoints; the newest does. A snapshot has no `secret`."""

    __tablename__ = "history_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    public: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
