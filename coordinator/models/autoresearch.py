"""Imported sessions of the original autoresearch loop, line by line as they were."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base, Sha


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
    """A line of the session's `results.tsv`, its bytes unchanged; the header is line 1.

    `run_id` is the run that was made of it. `problem` says why none was, where the line could not be read.
    """

    __tablename__ = "imported_lines"

    project_id: Mapped[int] = mapped_column(ForeignKey("imported_sessions.project_id"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    run_id: Mapped[int | None] = mapped_column(ForeignKey("runs.id"))
    problem: Mapped[str | None] = mapped_column(Text)
