"""Volunteers, their tokens and workers, what maintainers did, and what waits for them."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, bindparam, or_, text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.models.base import Base, Sha256, table_of
from shared.workers import TokenScope, WorkerState

_PENDING = text("is_pending")
_ANCHORS = text("is_anchor")
IS_PENDING, IS_ANCHOR = text("volunteers.is_pending"), text("workers.is_anchor")
"""That an account waits for approval, and that a worker is an anchor, as SQLite must read it to use the index."""


class Volunteer(Base):
    """An account. It `is_pending` until a maintainer approves it, where that is needed; it `is_approved` once somebody
    let it in, by approval, invitation or from the command line. `suspension` is a maintainer's reason for refusing all
    its requests; `quarantine` that for refusing its writes and leaving its runs and papers out. `address_sha256` is of
    the address that it was made from. One that `is_unlisted` does not want to stand on the leaderboard.
    `cited_as` is the name under which its owner agreed to be named in citations of snapshots.
    """

    __tablename__ = "volunteers"
    __table_args__ = (
        Index("ix_volunteers_address", "address_sha256", "created_at"),
        Index("ix_volunteers_pending", "created_at", sqlite_where=_PENDING, postgresql_where=_PENDING),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    role: Mapped[str] = mapped_column(String(20), default="volunteer")
    quarantine: Mapped[str | None] = mapped_column(Text)
    suspension: Mapped[str | None] = mapped_column(Text)
    is_pending: Mapped[bool] = mapped_column(default=False)
    is_approved: Mapped[bool] = mapped_column(default=True)
    is_unlisted: Mapped[bool] = mapped_column(default=False)
    cited_as: Mapped[str | None] = mapped_column(String(120))
    address_sha256: Mapped[str | None] = mapped_column(Sha256)
    created_at: Mapped[datetime]


class Token(Base):
    """A bearer token; only its SHA-256 is stored. It counts until `revoked_at` or `expires_at`. Its `scope` is a
    `shared.workers.TokenScope`; `made_with_id` is the token that signed the request for it, if one did."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    volunteer_id: Mapped[int] = mapped_column(ForeignKey("volunteers.id"), index=True)
    sha256: Mapped[str] = mapped_column(Sha256, unique=True)
    label: Mapped[str] = mapped_column(String(80))
    scope: Mapped[str] = mapped_column(String(20), default=TokenScope.WORK)
    made_with_id: Mapped[int | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class SignInLink(Base):
    """A secret that is exchanged for a token once, before `expires_at`: a sign-in link, or a code for a machine, which
    may have been made with a token."""

    __tablename__ = "sign_in_links"

    id: Mapped[int] = mapped_column(primary_key=True)
    volunteer_id: Mapped[int] = mapped_column(ForeignKey("volunteers.id"))
    sha256: Mapped[str] = mapped_column(Sha256, unique=True)
    made_with_id: Mapped[int | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class BrowserSession(Base):
    """A person who signed in with a browser. The SHA-256 is of the secret in the browser's cookie.

    A session that began with a token ends with that token, and has its scope. One that is over is deleted.
    """

    __tablename__ = "browser_sessions"

    id: Mapped[int] = mapped_column(primary_key=True)
    volunteer_id: Mapped[int] = mapped_column(ForeignKey("volunteers.id"), index=True)
    token_id: Mapped[int | None] = mapped_column(ForeignKey("tokens.id"))
    sha256: Mapped[str] = mapped_column(Sha256, unique=True)
    scope: Mapped[str] = mapped_column(String(20))
    browser: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class Password(Base):
    """An account's password, as Argon2 hashes it. `scope` is that of the session in which it was set: who had only a
    worker's token does not gain duties by a password."""

    __tablename__ = "passwords"

    volunteer_id: Mapped[int] = mapped_column(ForeignKey("volunteers.id"), primary_key=True)
    password_hash: Mapped[str] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[datetime]


class Invitation(Base):
    """A secret with which `max_uses` people may make an account, before `expires_at`."""

    __tablename__ = "invitations"

    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(Sha256, unique=True)
    created_by: Mapped[str] = mapped_column(String(80))
    max_uses: Mapped[int]
    uses: Mapped[int]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class AuditEntry(Base):
    """An action of a person on a `subject` (its kind) named `key`: why, and the subject's state before and after.

    `actor` is an account's name, or, from the command line, the name of a user of that machine. An entry that takes
    another one back names it in `undoes_id`. Entries are never changed.
    """

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index("ix_audit_entries_actor", "actor", "id"),
        Index("ix_audit_entries_action", "action", "id"),
        Index("ix_audit_entries_subject", "subject", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    actor: Mapped[str] = mapped_column(String(80))
    volunteer_id: Mapped[int | None] = mapped_column(ForeignKey("volunteers.id"))
    source: Mapped[str] = mapped_column(String(20))
    action: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(String(20))
    key: Mapped[str] = mapped_column(String(400), index=True)
    reason: Mapped[str] = mapped_column(Text)
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    undoes_id: Mapped[int | None] = mapped_column(ForeignKey("audit_entries.id"), unique=True)
    created_at: Mapped[datetime]


class Worker(Base):
    """A worker as it described itself at its last claim. In quarantine its runs do not count, and it gets no job.

    Maintainers trust an anchor to verify what others found. `state` is the one that it last reported; `version` is that
    of its program, empty where it did not say. While `pause`, a moderator's reason, is there, it gets no job either.
    `message` waits to be shown in its terminal; messages are numbered, and the last was shown at `message_shown_at`.
    """

    __tablename__ = "workers"
    __table_args__ = (
        UniqueConstraint("volunteer_id", "name"),
        Index("ix_workers_seen", "last_seen_at", "id"),
        Index("ix_workers_anchors", "id", sqlite_where=_ANCHORS, postgresql_where=_ANCHORS),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    volunteer_id: Mapped[int] = mapped_column(ForeignKey("volunteers.id"))
    name: Mapped[str] = mapped_column(String(200))
    agent: Mapped[str] = mapped_column(String(80))
    hardware: Mapped[dict[str, Any]]
    hardware_class: Mapped[str] = mapped_column(String(200), index=True)
    quarantine: Mapped[str | None] = mapped_column(Text)
    pause: Mapped[str | None] = mapped_column(Text)
    message: Mapped[str | None] = mapped_column(Text)
    message_number: Mapped[int] = mapped_column(default=0)
    message_shown_at: Mapped[datetime | None]
    is_anchor: Mapped[bool] = mapped_column(default=False)
    version: Mapped[str] = mapped_column(String(40), default="")
    state: Mapped[str] = mapped_column(String(20), default=WorkerState.WORKING)
    state_reason: Mapped[str] = mapped_column(Text, default="")
    state_at: Mapped[datetime]
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]


WORKER_NAME = Volunteer.name + "/" + Worker.name
"""A worker as others see it, in queries that read both tables."""


_TOKENS, _VOLUNTEERS, _WORKERS = table_of(Token), table_of(Volunteer), table_of(Worker)
IS_VALID_TOKEN = _TOKENS.c.revoked_at.is_(None) & or_(
    _TOKENS.c.expires_at.is_(None), _TOKENS.c.expires_at > bindparam("moment")
)
"""That a token counts at `moment`."""

IS_STOPPED = or_(_VOLUNTEERS.c.suspension.is_not(None), _VOLUNTEERS.c.quarantine.is_not(None), _VOLUNTEERS.c.is_pending)
"""That an account may write nothing."""

IS_WORKER_STOPPED = or_(IS_STOPPED, _WORKERS.c.quarantine.is_not(None))


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
