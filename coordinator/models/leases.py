"""Leases: who does what, until when."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, ForeignKey, Index, String, Text, and_, bindparam, text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base, LargeCount, Sha, Sha256, is_one_of, table_of
from shared.leases import LeaseState

LIVE_STATES = (LeaseState.DRAFTING, LeaseState.READY, LeaseState.RUNNING, LeaseState.REPORTING)

_CONFIRMS = text("kind = 'confirm'")


class Lease(Base):
    """A time-limited assignment of one job to one worker.

    It is live while its state is a live one and `expires_at` lies ahead; nothing needs to happen for it to expire. It
    `is_check` if the coordinator, not its volunteer, chose that they measure this commit; `address_sha256` is of the
    address that claimed it. `assignment` is a `shared.experiments.Assignment`, None where there is nothing in it.
    `proposed_tree_sha` and `proposed_fingerprint` reserve the code that the worker is about to run; `proposed_idea` and
    `proposed_move` are the names of what it tries; `refused_proposals` counts those refused because they, or much like
    them, were tried. `pace` is its training budget in units of the contract's, by the `seed_throughput` of its worker.
    A job that promotes runs on a `rung` of the contract. `result_*` is the stored answer to the one result that was
    accepted.
    """

    __tablename__ = "leases"
    __table_args__ = (
        Index("ix_leases_live", "project_id", "state", "expires_at", "phase", "kind", "base_sha", "branch_id"),
        Index("ix_leases_worker_state", "worker_id", "state"),
        Index("ix_leases_worker_issued", "worker_id", "issued_at"),
        Index("ix_leases_address_state", "address_sha256", "state"),
        Index("ix_leases_fingerprint", "project_id", "proposed_fingerprint"),
        Index("ix_leases_idea", "project_id", "proposed_idea"),
        Index("ix_leases_move", "project_id", "proposed_move"),
        Index("ix_leases_issued", "project_id", "issued_at"),
        Index("ix_leases_confirm", "base_sha", sqlite_where=_CONFIRMS, postgresql_where=_CONFIRMS),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    worker_id: Mapped[int] = mapped_column(ForeignKey("workers.id"))
    branch_id: Mapped[int] = mapped_column(ForeignKey("branches.id"))
    hardware_class: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20))
    base_sha: Mapped[str] = mapped_column(ForeignKey("commits.sha"))
    seed: Mapped[int]
    is_check: Mapped[bool] = mapped_column(default=False)
    why: Mapped[str] = mapped_column(Text)
    assignment: Mapped[dict[str, Any] | None]
    pace: Mapped[float] = mapped_column(default=1.0)
    seed_throughput: Mapped[float | None]
    rung: Mapped[str | None] = mapped_column(String(63))
    token_sha256: Mapped[str] = mapped_column(Sha256)
    address_sha256: Mapped[str | None] = mapped_column(Sha256)
    proposal: Mapped[dict[str, Any] | None]
    proposed_tree_sha: Mapped[str | None] = mapped_column(Sha)
    proposed_fingerprint: Mapped[str | None] = mapped_column(Sha256)
    proposed_idea: Mapped[str | None] = mapped_column(Sha256)
    proposed_move: Mapped[str | None] = mapped_column(Sha256)
    refused_proposals: Mapped[int] = mapped_column(default=0)
    phase: Mapped[str] = mapped_column(String(20))
    step: Mapped[int] = mapped_column(LargeCount, default=0)
    loss: Mapped[float | None]
    share: Mapped[float] = mapped_column(default=0.0)
    issued_at: Mapped[datetime]
    phase_started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    progressed_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    deadline_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[str] = mapped_column(Text, default="")
    result_key: Mapped[UUID | None]
    result_sha256: Mapped[str | None] = mapped_column(Sha256)
    result_reply: Mapped[dict[str, Any] | None]

    @classmethod
    def is_live_at(cls, moment: datetime) -> ColumnElement[bool]:
        """The condition that a lease still holds at a moment. Expiry is this predicate and nothing else."""
        return and_(is_one_of(cls.state, LIVE_STATES), cls.expires_at > moment)


_LEASES = table_of(Lease)
IS_OPEN = is_one_of(_LEASES.c.state, LIVE_STATES)
"""That a lease is live, or has expired and nobody wrote it down."""

IS_LIVE = IS_OPEN & (_LEASES.c.expires_at > bindparam("moment"))
"""That a lease is live at `moment`."""


class ContextPack(Base):
    """The text that a lease's agent got to read, and the ids of the findings in it. Measuring jobs have none.

    Some packs, drawn at random, are made without findings, to learn what findings are worth.
    """

    __tablename__ = "context_packs"

    lease_id: Mapped[UUID] = mapped_column(ForeignKey("leases.id"), primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    findings: Mapped[list[Any]]
    with_findings: Mapped[bool] = mapped_column(default=True)
