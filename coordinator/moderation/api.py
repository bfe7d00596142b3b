"""Duties over HTTP, for accounts whose role has the permission. Each request has a reason and is in the audit log."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, status
from sqlalchemy.orm import Session

from coordinator.accounts import service as accounts
from coordinator.accounts.permissions import Permission
from coordinator.accounts.security import BearerToken
from coordinator.accounts.service import authorize
from coordinator.db.database import ReadSession, WriteSession
from coordinator.events import audit
from coordinator.events.audit import Actor, AuditFilters
from coordinator.evidence import held
from coordinator.http.pagination import Cursor, Limit, RowId
from coordinator.http.parameters import KNOWN_ONLY
from coordinator.moderation import service
from coordinator.projects import service as projects
from shared.moderation import (
    AccountView,
    ActionSource,
    AnchorChange,
    AuditAction,
    AuditView,
    Explained,
    HeldDecisionRequest,
    HeldResult,
    InvitationRequest,
    InvitationView,
    NewSecret,
    RoleChange,
    SubjectKind,
    WorkerMessageRequest,
    WorkerPause,
    WorkerSanction,
)
from shared.protocol import API_PREFIX, Page, Sha, Slug
from shared.workers import Role

router = APIRouter(prefix=API_PREFIX, tags=["duties"], dependencies=KNOWN_ONLY)


def act(session: Session, token: str | None, permission: Permission) -> Actor:
    """The account that acts, if it has the permission."""
    caller = authorize(session, token, permission)
    return Actor(caller.name, caller.id, Role(caller.role), ActionSource.API)


def _read_filters(
    by: Annotated[str | None, Query(max_length=80)] = None,
    action: AuditAction | None = None,
    subject: SubjectKind | None = None,
    key: Annotated[str | None, Query(max_length=400)] = None,
) -> AuditFilters:
    return AuditFilters(by, action, subject, key)


@router.get("/audit")
def list_audit(
    session: ReadSession, token: BearerToken, filters: Annotated[AuditFilters, Depends(_read_filters)],
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[AuditView]:  # fmt: skip
    """Actions of people, newest first: who, what, why, before and after."""
    authorize(session, token, Permission.LOOK)
    return audit.view_page(session, filters, cursor, limit)


@router.post("/audit/{entry_id}/undo", status_code=status.HTTP_201_CREATED)
def undo_action(entry_id: RowId, asked: Explained, token: BearerToken, session: WriteSession) -> AuditView:
    """Take an action back, with all that followed from it."""
    return service.view(service.undo(session, act(session, token, Permission.LOOK), entry_id, asked.reason))


@router.get("/accounts")
def list_accounts(
    session: ReadSession, token: BearerToken, cursor: Cursor = None, limit: Limit = 50
) -> Page[AccountView]:
    """Accounts with their sanctions, newest first."""
    authorize(session, token, Permission.LOOK)
    return accounts.view_accounts(session, cursor, limit)


@router.post("/accounts/{name}/role")
def set_role(name: Slug, asked: RoleChange, token: BearerToken, session: WriteSession) -> AuditView:
    """Give an account another role."""
    actor = act(session, token, Permission.ADMINISTER)
    return service.view(service.set_role(session, actor, name, asked.role, asked.reason))


@router.post("/accounts/{name}/suspension")
def suspend_account(name: Slug, asked: Explained, token: BearerToken, session: WriteSession) -> AuditView:
    """Refuse all requests of an account. What it did stays."""
    actor = act(session, token, Permission.SANCTION)
    return service.view(service.set_suspension(session, actor, name, asked.reason, is_on=True))


@router.post("/accounts/{name}/reinstatement")
def unsuspend_account(name: Slug, asked: Explained, token: BearerToken, session: WriteSession) -> AuditView:
    """End a suspension."""
    actor = act(session, token, Permission.SANCTION)
    return service.view(service.set_suspension(session, actor, name, asked.reason, is_on=False))


@router.post("/accounts/{name}/approval")
def approve_account(name: Slug, asked: Explained, token: BearerToken, session: WriteSession) -> AuditView:
    """Let an account in that waits for it."""
    return service.view(service.approve_account(session, act(session, token, Permission.APPROVE), name, asked.reason))


@router.post("/accounts/{name}/quarantine")
def quarantine_account(name: Slug, asked: WorkerSanction, token: BearerToken, session: WriteSession) -> AuditView:
    """Refuse all writes of an account or worker, and leave its runs and papers out of everything."""
    actor = act(session, token, Permission.SANCTION)
    return service.view(service.set_quarantine(session, actor, name, asked.worker, asked.reason, is_on=True))


@router.post("/accounts/{name}/release")
def release_account(name: Slug, asked: WorkerSanction, token: BearerToken, session: WriteSession) -> AuditView:
    """End a quarantine. Everything counts and shows again."""
    actor = act(session, token, Permission.SANCTION)
    return service.view(service.set_quarantine(session, actor, name, asked.worker, asked.reason, is_on=False))


@router.post("/accounts/{name}/papers/retraction")
def retract_papers(name: Slug, asked: Explained, token: BearerToken, session: WriteSession) -> AuditView:
    """Retract the published papers of an account, at most the 1,000 newest."""
    return service.view(service.retract_papers(session, act(session, token, Permission.ANNOTATE), name, asked.reason))


@router.post("/accounts/{name}/anchor")
def set_anchor(name: Slug, asked: AnchorChange, token: BearerToken, session: WriteSession) -> AuditView:
    """Trust a worker to verify what others found, or no longer."""
    actor = act(session, token, Permission.ADMINISTER)
    done = service.set_anchor(session, actor, name, asked.worker, asked.reason, is_anchor=asked.is_anchor)
    return service.view(done)


@router.post("/accounts/{name}/pause")
def pause_worker(name: Slug, asked: WorkerPause, token: BearerToken, session: WriteSession) -> AuditView:
    """Give a worker no jobs, and show it why; or give it jobs again."""
    actor = act(session, token, Permission.SANCTION)
    return service.view(service.set_pause(session, actor, name, asked.worker, asked.reason, is_on=asked.is_paused))


@router.post("/accounts/{name}/message")
def send_message(name: Slug, asked: WorkerMessageRequest, token: BearerToken, session: WriteSession) -> AuditView:
    """Show a message in a worker's terminal, once."""
    actor = act(session, token, Permission.SANCTION)
    return service.view(service.send_message(session, actor, name, asked.worker, asked.text))


@router.post("/accounts/{name}/sign-in-link", status_code=status.HTTP_201_CREATED)
def create_link(name: Slug, asked: Explained, token: BearerToken, session: WriteSession) -> NewSecret:
    """Make a sign-in link for an account, as for a forgotten password: the secret signs it in once, within a day."""
    return service.create_link(session, act(session, token, Permission.ADMINISTER), name, asked.reason)


@router.get("/held")
def list_held(session: ReadSession, token: BearerToken, project: Slug | None = None) -> Page[HeldResult]:
    """Results that wait for a decision, and those that have one, at most 200; the latest first."""
    authorize(session, token, Permission.LOOK)
    return Page(items=held.list_held(session, projects.get_project(session, project).id if project else None))


@router.post("/projects/{name}/held/{sha}/decision")
def decide_held(
    name: Slug, sha: Sha, asked: HeldDecisionRequest, token: BearerToken, session: WriteSession
) -> AuditView:
    """Accept a held result, send it to two anchors, or reject it."""
    actor = act(session, token, Permission.DECIDE)
    done = service.decide_held(session, actor, name, sha, asked.hardware_class, asked.decision, asked.reason)
    return service.view(done)


@router.get("/invitations")
def list_invitations(
    session: ReadSession, token: BearerToken, cursor: Cursor = None, limit: Limit = 50
) -> Page[InvitationView]:
    """Invitations, newest first, without their secrets."""
    authorize(session, token, Permission.LOOK)
    return accounts.view_invitations(session, cursor, limit)


@router.post("/invitations", status_code=status.HTTP_201_CREATED)
def create_invitation(asked: InvitationRequest, token: BearerToken, session: WriteSession) -> NewSecret:
    """Make an invitation. Its secret comes with the answer, and never again."""
    return service.create_invitation(session, act(session, token, Permission.APPROVE), asked)


@router.post("/invitations/{invitation_id}/revocation")
def revoke_invitation(invitation_id: RowId, asked: Explained, token: BearerToken, session: WriteSession) -> AuditView:
    """End an invitation. Accounts that were made with it stay."""
    actor = act(session, token, Permission.APPROVE)
    return service.view(service.revoke_invitation(session, actor, invitation_id, asked.reason))
