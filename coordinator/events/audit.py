"""The audit log: each action of a person, written in the transaction in which it happens."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.http.errors import must_find
from coordinator.http.pagination import cut_page
from coordinator.models import AuditEntry, view_of
from shared.moderation import ActionSource, AuditAction, AuditView, SubjectKind
from shared.protocol import Page, now
from shared.workers import Role

MAX_ACTOR = 80
BACKUP_KEY = "backup"


class Actor(NamedTuple):
    """The person who acts: an account, or a user of the coordinator's machine, who may do everything."""

    name: str
    volunteer_id: int | None = None
    role: Role = Role.MAINTAINER
    source: ActionSource = ActionSource.COMMAND_LINE


class AuditFilters(NamedTuple):
    """The filters of a list; None means no filter."""

    actor: str | None = None
    action: AuditAction | None = None
    subject: SubjectKind | None = None
    key: str | None = None


State = Mapping[str, Any]
"""Part of a subject's state, as JSON."""


def record(
    session: Session, actor: Actor, action: AuditAction, subject: SubjectKind, key: str, reason: str,
    before: State | None, after: State | None, undoes_id: int | None = None,
) -> AuditEntry:  # fmt: skip
    """Add an entry."""
    entry = AuditEntry(
        actor=actor.name[:MAX_ACTOR], volunteer_id=actor.volunteer_id, source=actor.source, action=action,
        subject=subject, key=key, reason=reason, before=dict(before) if before is not None else None,
        after=dict(after) if after is not None else None, undoes_id=undoes_id, created_at=now(),
    )  # fmt: skip
    session.add(entry)
    session.flush()
    return entry


def record_backup(session: Session, actor: Actor, held: State) -> None:
    """Note that a backup was verified, and how much it holds."""
    words = "It was restored and verified."
    record(session, actor, AuditAction.VERIFY_BACKUP, SubjectKind.DATABASE, BACKUP_KEY, words, None, held)


def find_last_backup(session: Session) -> AuditEntry | None:
    """The entry of the newest backup that was verified: its time, and what it holds."""
    query = select(AuditEntry).where(AuditEntry.key == BACKUP_KEY, AuditEntry.subject == SubjectKind.DATABASE)
    return session.scalar(query.order_by(AuditEntry.id.desc()).limit(1))


def lock_entry(session: Session, entry_id: int) -> AuditEntry:
    """An entry, locked until the transaction ends. Raises NotFoundError."""
    entry = session.scalar(select(AuditEntry).where(AuditEntry.id == entry_id).with_for_update(key_share=True))
    return must_find(entry, f"The audit log has no entry {entry_id}.")


def map_undone(session: Session, ids: Sequence[int]) -> dict[int, int]:
    """Those of the entries that were taken back, each with the entry that did it."""
    rows = session.execute(select(AuditEntry.undoes_id, AuditEntry.id).where(AuditEntry.undoes_id.in_(ids)))
    return {undone: by for undone, by in rows if undone is not None}


def view_page(session: Session, filters: AuditFilters, before_id: int | None, limit: int) -> Page[AuditView]:
    """A page of the log, newest first."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit + 1)
    given = {name: value for name, value in filters._asdict().items() if value is not None}
    query = query.where(*(getattr(AuditEntry, name) == value for name, value in given.items()))
    if before_id is not None:
        query = query.where(AuditEntry.id < before_id)
    entries = list(session.scalars(query))
    undone = map_undone(session, [entry.id for entry in entries])
    views = [view_entry(entry, undone.get(entry.id)) for entry in entries]
    return cut_page(views, limit, lambda view: view.id)


def view_entry(entry: AuditEntry, undone_by: int | None = None) -> AuditView:
    return view_of(AuditView, entry, by=entry.actor, undoes=entry.undoes_id, undone_by=undone_by, at=entry.created_at)
