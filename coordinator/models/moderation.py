"""Readers' reports, and moderators' notes about things that wait for them."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base, Sha256


class FindingReport(Base):
    """A reader's report of a finding, by an account or (None) by somebody without one. `address_sha256` is of the
    address that it came from, for limits."""

    __tablename__ = "finding_reports"
    __table_args__ = (Index("ix_finding_reports_address", "address_sha256", "created_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    finding_id: Mapped[int] = mapped_column(ForeignKey("findings.id"), index=True)
    volunteer_id: Mapped[int | None] = mapped_column(ForeignKey("volunteers.id"))
    address_sha256: Mapped[str] = mapped_column(Sha256)
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(index=True)


class QueueMark(Base):
    """A note about a thing that waits in the queue: whom it was assigned to, and the state in which it was dismissed.

    It waits again as soon as its state is another: a report more, other failures, a worse dispute.
    """

    __tablename__ = "queue_marks"

    item: Mapped[str] = mapped_column(String(400), primary_key=True)
    assigned_to: Mapped[str | None] = mapped_column(String(63))
    dismissed_state: Mapped[str | None] = mapped_column(String(80))
