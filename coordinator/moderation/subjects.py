"""The things that are acted upon: reading and writing the part of their state that actions change.

A read locks its rows until the transaction ends, so that of two actions at once one sees the other. A write is given
the values to set, does what follows from them, and works in both directions: undoing an action writes what was before.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.accounts import sessions
from coordinator.accounts.permissions import STAFF, NotAllowedError, check_rank
from coordinator.events.audit import Actor, State
from coordinator.evidence import held, quarantine
from coordinator.findings import revisions
from coordinator.findings import service as findings
from coordinator.http.errors import SwarmError, must_find
from coordinator.lineage import branch_changes
from coordinator.models import Branch, Finding, Invitation, Project, QueueMark, SignInLink, Token, Volunteer, Worker
from coordinator.projects import settings as project_settings
from coordinator.projects.service import contract_of, get_project
from coordinator.selection import job_mix
from shared.findings import FindingState, NoteKind
from shared.moderation import SubjectKind
from shared.protocol import now
from shared.workers import Role

STATE = ("role", "is_pending", "is_approved", "suspension")
PROFILE = ("is_unlisted", "cited_as")
"""Columns of an account: what maintainers decide, but for its quarantine, and what its owner does."""

LINK, LINK_OPEN = "sign-in link ", "open"


class LastMaintainerError(SwarmError, status=409, title="A swarm keeps one maintainer"):
    pass


class AuditedSubject(NamedTuple):
    """Both raise NotFoundError; `write` raises SwarmError where the new state is not possible."""

    read: Callable[[Session, str], dict[str, Any]]
    write: Callable[[Session, str, State, Actor, str], None]


def _lock_account(session: Session, name: str) -> Volunteer:
    account = session.scalar(select(Volunteer).where(Volunteer.name == name).with_for_update(key_share=True))
    return must_find(account, f"There is no account {name!r}.")


def _read_account(session: Session, name: str) -> dict[str, Any]:
    account = _lock_account(session, name)
    state = {column: getattr(account, column) for column in (*STATE, "quarantine", *PROFILE)}
    is_open = SignInLink.volunteer_id == account.id, SignInLink.used_at.is_(None), SignInLink.expires_at > now()
    links = session.scalars(select(SignInLink.id).where(*is_open).with_for_update(key_share=True))
    return state | {name_link(link_id): LINK_OPEN for link_id in links}


def _write_account(session: Session, name: str, changes: State, actor: Actor, _reason: str) -> None:
    account = _lock_account(session, name)
    if actor.volunteer_id != account.id or changes.keys() - PROFILE:
        check_rank(actor.role, Role(account.role))
    # The command line may stop the only one: whoever took over that account cannot undo it, and it makes another one.
    is_stopped = actor.volunteer_id is not None and (changes.get("suspension") or changes.get("quarantine"))
    if account.role == Role.MAINTAINER and ("role" in changes or is_stopped):
        free = Volunteer.suspension.is_(None), Volunteer.quarantine.is_(None), Volunteer.id != account.id
        if not session.scalar(select(func.count()).where(Volunteer.role == Role.MAINTAINER, *free)):
            raise LastMaintainerError(f"Make somebody else a maintainer before {name} stops being the only one.")
    for column in changes.keys() - {"quarantine"}:
        if column.startswith(LINK):
            _write_link(session, int(column.removeprefix(LINK)), is_open=changes[column] == LINK_OPEN)
        else:
            setattr(account, column, changes[column])
    if "role" in changes or "suspension" in changes:
        sessions.end_sessions(session, account.id)
    session.flush()
    if "quarantine" in changes:
        quarantine.set_quarantine(session, name, None, changes["quarantine"], actor.name)
        findings.hide_quarantined(session, account.id)


def name_link(link_id: int) -> str:
    """The name of a sign-in link or code among the values of its account, where it is `LINK_OPEN` or None."""
    return f"{LINK}{link_id}"


def _write_link(session: Session, link_id: int, *, is_open: bool) -> None:
    """End a link or code that nobody used yet, as if it were used; or let it count again."""
    link = must_find(session.get(SignInLink, link_id), f"There is no sign-in link {link_id}.")
    link.used_at = None if is_open else now()


def _lock_worker(session: Session, key: str) -> tuple[Volunteer, Worker]:
    name, _, worker_name = key.partition("/")
    account = _lock_account(session, name)
    query = select(Worker).where(Worker.volunteer_id == account.id, Worker.name == worker_name)
    worker = must_find(session.scalar(query.with_for_update(key_share=True)), f"{name} has no worker {worker_name!r}.")
    return account, worker


def _read_worker(session: Session, key: str) -> dict[str, Any]:
    _, worker = _lock_worker(session, key)
    return {name: getattr(worker, name) for name in ("quarantine", "is_anchor", "pause", "message")}


def _write_worker(session: Session, key: str, changes: State, actor: Actor, _reason: str) -> None:
    account, worker = _lock_worker(session, key)
    check_rank(actor.role, Role(account.role))
    if "pause" in changes:
        worker.pause = changes["pause"]
    if "message" in changes:
        worker.message, worker.message_shown_at = changes["message"], None
        worker.message_number += 1
    session.flush()
    if "is_anchor" in changes:
        quarantine.set_anchor(session, account.name, worker.name, is_anchor=changes["is_anchor"], who=actor.name)
    if "quarantine" in changes:
        quarantine.set_quarantine(session, account.name, worker.name, changes["quarantine"], actor.name)
        findings.hide_quarantined(session, account.id)


def _lock_token(session: Session, key: str) -> tuple[Token, Volunteer]:
    query = select(Token, Volunteer).join(Volunteer, Volunteer.id == Token.volunteer_id)
    found = session.execute(query.where(Token.id == int(key)).with_for_update(of=Token, key_share=True)).one_or_none()
    row = must_find(found, f"There is no token {key}.")
    return row[0], row[1]


def _read_token(session: Session, key: str) -> dict[str, Any]:
    token, account = _lock_token(session, key)
    return {"account": account.name, "label": token.label, "is_revoked": token.revoked_at is not None}


def _write_token(session: Session, key: str, changes: State, actor: Actor, _reason: str) -> None:
    token, account = _lock_token(session, key)
    if actor.volunteer_id != account.id:
        check_rank(actor.role, Role(account.role))
    if "label" in changes:
        token.label = changes["label"]
    if "is_revoked" in changes:
        token.revoked_at = now() if changes["is_revoked"] else None
        sessions.end_sessions_of_token(session, token.id)
    session.flush()


def _lock_invitation(session: Session, key: str) -> Invitation:
    row = session.scalar(select(Invitation).where(Invitation.id == int(key)).with_for_update(key_share=True))
    return must_find(row, f"There is no invitation {key}.")


def _read_invitation(session: Session, key: str) -> dict[str, Any]:
    return {"is_revoked": _lock_invitation(session, key).revoked_at is not None}


def _write_invitation(session: Session, key: str, changes: State, _actor: Actor, _reason: str) -> None:
    _lock_invitation(session, key).revoked_at = now() if changes["is_revoked"] else None
    session.flush()


def _lock_finding(session: Session, key: str) -> Finding:
    finding = session.scalar(select(Finding).where(Finding.id == int(key)).with_for_update(key_share=True))
    return must_find(finding, f"There is no finding {key}.")


def _read_finding(session: Session, key: str) -> dict[str, Any]:
    return {"state": _lock_finding(session, key).state}


def _write_finding(session: Session, key: str, changes: State, actor: Actor, reason: str) -> None:
    is_restored = changes["state"] == FindingState.PUBLISHED
    kind = NoteKind.RESTORATION if is_restored else NoteKind.RETRACTION
    revisions.change_state(session, _lock_finding(session, key), kind, actor.name)
    if actor.volunteer_id is not None:
        revisions.add_note(session, int(key), actor.volunteer_id, kind, reason)


def _read_papers(session: Session, name: str) -> dict[str, Any]:
    """The states of an account's papers by their number."""
    own = findings.lock_of_account(session, _lock_account(session, name).id)
    return {str(number): state for number, state in own.items()}


def _write_papers(session: Session, name: str, changes: State, actor: Actor, reason: str) -> None:
    check_rank(actor.role, Role(_lock_account(session, name).role))
    for key, state in changes.items():
        _write_finding(session, key, {"state": state}, actor, reason)


def _split_held(session: Session, key: str) -> tuple[Project, str, str]:
    name, sha, hardware_class = key.split("/", 2)
    return get_project(session, name), sha, hardware_class


def _read_held(session: Session, key: str) -> dict[str, Any]:
    _, sha, hardware_class = _split_held(session, key)
    return {"decision": held.find_decision(session, sha, hardware_class)}


def _write_held(session: Session, key: str, changes: State, actor: Actor, reason: str) -> None:
    held.set_decision(session, *_split_held(session, key), changes["decision"], actor.name, reason)


def _lock_branch(session: Session, key: str) -> tuple[Project, Branch]:
    """The branch of a key, which is a project's name and the branch's number, since its name may change."""
    name, _, number = key.partition("/")
    project = get_project(session, name)
    branch = branch_changes.find_locked(session, project.id, int(number))
    return project, must_find(branch, f"{name} has no branch number {number}.")


def _read_branch(session: Session, key: str) -> dict[str, Any]:
    _, branch = _lock_branch(session, key)
    return {column: getattr(branch, column) for column in branch_changes.COLUMNS}


def _write_branch(session: Session, key: str, changes: State, actor: Actor, reason: str) -> None:
    project, branch = _lock_branch(session, key)
    rules = contract_of(project).diversity
    branch_changes.change_branch(session, branch, changes, rules, actor.name, reason)


def _lock_mark(session: Session, name: str) -> QueueMark:
    """The mark of a thing in the queue, made if need be."""
    mark = session.scalar(select(QueueMark).where(QueueMark.item == name).with_for_update(key_share=True))
    if mark is None:
        mark = QueueMark(item=name, assigned_to=None, dismissed_state=None)
        session.add(mark)
        session.flush()
    return mark


def _read_mark(session: Session, name: str) -> dict[str, Any]:
    mark = _lock_mark(session, name)
    return {"assigned_to": mark.assigned_to, "dismissed_state": mark.dismissed_state}


def _write_mark(session: Session, name: str, changes: State, _actor: Actor, _reason: str) -> None:
    if changes.get("assigned_to") is not None:
        account = _lock_account(session, changes["assigned_to"])
        if account.role not in STAFF:
            raise NotAllowedError(f"{account.name} is a {account.role}: only moderators and maintainers get such work.")
    mark = _lock_mark(session, name)
    for column, value in changes.items():
        setattr(mark, column, value)
    session.flush()


def _read_project(session: Session, name: str) -> dict[str, Any]:
    return project_settings.flatten(project_settings.settings_of(project_settings.lock_project(session, name)))


def _write_project(session: Session, name: str, changes: State, actor: Actor, reason: str) -> None:
    project = project_settings.lock_project(session, name)
    merged = project_settings.merge(project_settings.settings_of(project), changes)
    project_settings.store_settings(session, project, merged, actor.name, reason)
    if any(key.startswith(project_settings.JOBS) for key in changes):
        job_mix.adapt_project(session, project)


SUBJECTS: dict[SubjectKind, AuditedSubject] = {
    SubjectKind.ACCOUNT: AuditedSubject(_read_account, _write_account),
    SubjectKind.WORKER: AuditedSubject(_read_worker, _write_worker),
    SubjectKind.TOKEN: AuditedSubject(_read_token, _write_token),
    SubjectKind.INVITATION: AuditedSubject(_read_invitation, _write_invitation),
    SubjectKind.HELD: AuditedSubject(_read_held, _write_held),
    SubjectKind.FINDING: AuditedSubject(_read_finding, _write_finding),
    SubjectKind.PAPERS: AuditedSubject(_read_papers, _write_papers),
    SubjectKind.ITEM: AuditedSubject(_read_mark, _write_mark),
    SubjectKind.BRANCH: AuditedSubject(_read_branch, _write_branch),
    SubjectKind.PROJECT: AuditedSubject(_read_project, _write_project),
}
