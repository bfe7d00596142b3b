"""Duties over HTTP, for accounts whose role has the permission, and everybody's own tokens and profile.

Each change has a reason and is in the audit log.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, status
from sqlalchemy.orm import Session

from coordinator.accounts import service as accounts
from coordinator.accounts.permissions import Permission
from coordinator.accounts.security import BearerToken
from coordinator.accounts.service import authenticate, authorize
from coordinator.db.database import ReadSession, WriteSession
from coordinator.events import audit
from coordinator.events.audit import Actor, AuditFilters, view_entry
from coordinator.evidence import held
from coordinator.http.addresses import ClientAddress
from coordinator.http.pagination import Cursor, Limit, RowId
from coordinator.http.parameters import KNOWN_ONLY
from coordinator.moderation import branches, projects, queue, service
from coordinator.projects import settings as project_settings
from coordinator.projects.service import get_project
from shared.moderation import (
    AccountView,
    ActionSource,
    AnchorChange,
    AuditAction,
    AuditView,
    BranchHeadMove,
    BranchRename,
    BranchShare,
    Explained,
    HeldDecisionRequest,
    HeldResult,
    InvitationRequest,
    InvitationView,
    NewSecret,
    Profile,
    QueueKind,
    QueuePage,
    QueueRequest,
    ReportRequest,
    RoleChange,
    SettingsChange,
    SettingsRequest,
    SettingsRestoration,
    SubjectKind,
    TokenLabel,
    TokenRequest,
    TokenRevocation,
    TokenView,
    WorkerMessageRequest,
    WorkerPause,
    WorkerSanction,
)
from shared.projects import ProjectVersion, SettingsPreview
from shared.protocol import API_PREFIX, Page, Sha, Slug
from shared.workers import Role, TokenScope

router = APIRouter(prefix=API_PREFIX, tags=["duties"], dependencies=KNOWN_ONLY)

BRANCH = "/projects/{name}/branches/{branch}"
SETTINGS = "/projects/{name}/settings"


def _reading(permission: Permission) -> Any:
    """A dependency that lets nobody read but accounts with the permission."""

    def check_reader(session: ReadSession, token: BearerToken) -> None:
        authorize(session, token, permission)

    return Depends(check_reader)


def _acting(permission: Permission) -> Any:
    """A dependency that finds the account that acts, if it has the permission."""

    def find_actor(session: WriteSession, token: BearerToken) -> Actor:
        caller = authorize(session, token, permission)
        return Actor(caller.name, caller.id, Role(caller.role), ActionSource.API)

    return Depends(find_actor)


LOOKING, ADMINISTERING = [_reading(Permission.LOOK)], [_reading(Permission.ADMINISTER)]
Staff = Annotated[Actor, _acting(Permission.LOOK)]
Approver = Annotated[Actor, _acting(Permission.APPROVE)]
Sanctioner = Annotated[Actor, _acting(Permission.SANCTION)]
Annotator = Annotated[Actor, _acting(Permission.ANNOTATE)]
Decider = Annotated[Actor, _acting(Permission.DECIDE)]
Steerer = Annotated[Actor, _acting(Permission.STEER)]
Administrator = Annotated[Actor, _acting(Permission.ADMINISTER)]


def _read_filters(
    by: Annotated[str | None, Query(max_length=80)] = None,
    action: AuditAction | None = None,
    subject: SubjectKind | None = None,
    key: Annotated[str | None, Query(max_length=400)] = None,
) -> AuditFilters:
    return AuditFilters(by, action, subject, key)


@router.get("/audit", dependencies=LOOKING)
def list_audit(
    session: ReadSession, filters: Annotated[AuditFilters, Depends(_read_filters)], cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[AuditView]:  # fmt: skip
    """Actions of people, newest first: who, what, why, before and after."""
    return audit.view_page(session, filters, cursor, limit)


@router.post("/audit/{entry_id}/undo", status_code=status.HTTP_201_CREATED)
def undo_action(entry_id: RowId, asked: Explained, actor: Staff, session: WriteSession) -> AuditView:
    """Take an action back, with all that followed from it."""
    return view_entry(service.undo(session, actor, entry_id, asked.reason))


@router.get("/accounts", dependencies=LOOKING)
def list_accounts(session: ReadSession, cursor: Cursor = None, limit: Limit = 50) -> Page[AccountView]:
    """Accounts with their sanctions, newest first."""
    return accounts.view_accounts(session, cursor, limit)


@router.post("/accounts/{name}/role")
def set_role(name: Slug, asked: RoleChange, actor: Administrator, session: WriteSession) -> AuditView:
    """Give an account another role."""
    return view_entry(service.set_role(session, actor, name, asked.role, asked.reason))


@router.post("/accounts/{name}/suspension")
def suspend_account(name: Slug, asked: Explained, actor: Sanctioner, session: WriteSession) -> AuditView:
    """Refuse all requests of an account. What it did stays."""
    return view_entry(service.set_suspension(session, actor, name, asked.reason, is_on=True))


@router.post("/accounts/{name}/reinstatement")
def unsuspend_account(name: Slug, asked: Explained, actor: Sanctioner, session: WriteSession) -> AuditView:
    """End a suspension."""
    return view_entry(service.set_suspension(session, actor, name, asked.reason, is_on=False))


@router.post("/accounts/{name}/approval")
def approve_account(name: Slug, asked: Explained, actor: Approver, session: WriteSession) -> AuditView:
    """Let an account in that waits for it."""
    return view_entry(service.approve_account(session, actor, name, asked.reason))


@router.post("/accounts/{name}/quarantine")
def quarantine_account(name: Slug, asked: WorkerSanction, actor: Sanctioner, session: WriteSession) -> AuditView:
    """Refuse all writes of an account or worker, and leave its runs and papers out of everything."""
    return view_entry(service.set_quarantine(session, actor, name, asked.worker, asked.reason, is_on=True))


@router.post("/accounts/{name}/release")
def release_account(name: Slug, asked: WorkerSanction, actor: Sanctioner, session: WriteSession) -> AuditView:
    """End a quarantine. Everything counts and shows again."""
    return view_entry(service.set_quarantine(session, actor, name, asked.worker, asked.reason, is_on=False))


@router.post("/accounts/{name}/papers/retraction")
def retract_papers(name: Slug, asked: Explained, actor: Annotator, session: WriteSession) -> AuditView:
    """Retract the published papers of an account, at most the 1,000 newest."""
    return view_entry(service.retract_papers(session, actor, name, asked.reason))


@router.post("/accounts/{name}/anchor")
def set_anchor(name: Slug, asked: AnchorChange, actor: Administrator, session: WriteSession) -> AuditView:
    """Trust a worker to verify what others found, or no longer."""
    return view_entry(service.set_anchor(session, actor, name, asked.worker, asked.reason, is_anchor=asked.is_anchor))


@router.post("/accounts/{name}/pause")
def pause_worker(name: Slug, asked: WorkerPause, actor: Sanctioner, session: WriteSession) -> AuditView:
    """Give a worker no jobs, and show it why; or give it jobs again."""
    return view_entry(service.set_pause(session, actor, name, asked.worker, asked.reason, is_on=asked.is_paused))


@router.post("/accounts/{name}/message")
def send_message(name: Slug, asked: WorkerMessageRequest, actor: Sanctioner, session: WriteSession) -> AuditView:
    """Show a message in a worker's terminal, once."""
    return view_entry(service.send_message(session, actor, name, asked.worker, asked.text))


@router.post("/accounts/{name}/sign-in-link", status_code=status.HTTP_201_CREATED)
def create_link(name: Slug, asked: Explained, actor: Administrator, session: WriteSession) -> NewSecret:
    """Make a sign-in link for an account, as for a forgotten password: the secret signs it in once, within a day."""
    return service.create_link(session, actor, name, asked.reason)


@router.get("/held", dependencies=LOOKING)
def list_held(session: ReadSession, project: Slug | None = None) -> Page[HeldResult]:
    """Results that wait for a decision, and those that have one, at most 200; the latest first."""
    return Page(items=held.list_held(session, get_project(session, project).id if project else None))


@router.post("/projects/{name}/held/{sha}/decision")
def decide_held(name: Slug, sha: Sha, asked: HeldDecisionRequest, actor: Decider, session: WriteSession) -> AuditView:
    """Accept a held result, send it to two anchors, or reject it."""
    done = service.decide_held(session, actor, name, sha, asked.hardware_class, asked.decision, asked.reason)
    return view_entry(done)


@router.get("/invitations", dependencies=LOOKING)
def list_invitations(session: ReadSession, cursor: Cursor = None, limit: Limit = 50) -> Page[InvitationView]:
    """Invitations, newest first, without their secrets."""
    return accounts.view_invitations(session, cursor, limit)


@router.post("/invitations", status_code=status.HTTP_201_CREATED)
def create_invitation(asked: InvitationRequest, actor: Approver, session: WriteSession) -> NewSecret:
    """Make an invitation. Its secret comes with the answer, and never again."""
    return service.create_invitation(session, actor, asked)


@router.post("/invitations/{invitation_id}/revocation")
def revoke_invitation(invitation_id: RowId, asked: Explained, actor: Approver, session: WriteSession) -> AuditView:
    """End an invitation. Accounts that were made with it stay."""
    return view_entry(service.revoke_invitation(session, actor, invitation_id, asked.reason))


@router.get("/queue", dependencies=LOOKING)
def list_queue(request: Request, session: ReadSession, kind: QueueKind | None = None) -> QueuePage:
    """List the things that wait for moderators: that for which most waits comes first, then the oldest."""
    return queue.view_queue(session, kind, request.app.state.background.list_health())


@router.post("/queue/actions")
def act_on_queue(request: Request, asked: QueueRequest, actor: Staff, session: WriteSession) -> Page[AuditView]:
    """Do the same about some things that wait; all of it is done, or nothing."""
    done = queue.act(session, actor, asked, request.app.state.background.list_health())
    return Page(items=[view_entry(entry) for entry in done])


@router.post("/findings/{finding_id}/reports", status_code=status.HTTP_204_NO_CONTENT, tags=["findings"])
def report_finding(
    finding_id: RowId, asked: ReportRequest, token: BearerToken, address: ClientAddress, session: WriteSession
) -> None:
    """Tell the moderators that something is wrong with a finding; with a token, or without where reading is public."""
    volunteer_id = authenticate(session, token) if token else None
    queue.report_finding(session, finding_id, asked.text, volunteer_id, address)


@router.post(f"{BRANCH}/pause")
def pause_branch(name: Slug, branch: Slug, asked: Explained, actor: Steerer, session: WriteSession) -> AuditView:
    """Give a branch no more jobs until a maintainer resumes it."""
    return view_entry(branches.pause(session, actor, name, branch, asked.reason))


@router.post(f"{BRANCH}/resumption")
def resume_branch(name: Slug, branch: Slug, asked: Explained, actor: Steerer, session: WriteSession) -> AuditView:
    """Give a paused branch jobs again."""
    return view_entry(branches.resume(session, actor, name, branch, asked.reason))


@router.post(f"{BRANCH}/approval")
def approve_branch(name: Slug, branch: Slug, asked: Explained, actor: Steerer, session: WriteSession) -> AuditView:
    """Make a newcomer's proposal a branch."""
    return view_entry(branches.approve(session, actor, name, branch, asked.reason))


@router.post(f"{BRANCH}/name")
def rename_branch(name: Slug, branch: Slug, asked: BranchRename, actor: Steerer, session: WriteSession) -> AuditView:
    """Give a branch another name."""
    return view_entry(branches.rename(session, actor, name, branch, asked.name, asked.reason))


@router.post(f"{BRANCH}/share")
def share_branch(name: Slug, branch: Slug, asked: BranchShare, actor: Steerer, session: WriteSession) -> AuditView:
    """Give a branch a minimum share of the project's jobs."""
    return view_entry(branches.set_share(session, actor, name, branch, asked.share, asked.reason))


@router.post(f"{BRANCH}/head")
def move_branch(name: Slug, branch: Slug, asked: BranchHeadMove, actor: Steerer, session: WriteSession) -> AuditView:
    """Let a branch go on from another commit."""
    return view_entry(branches.move_head(session, actor, name, branch, asked.head_sha, asked.reason))


@router.post(f"{BRANCH}/deletion")
def delete_branch(name: Slug, branch: Slug, asked: Explained, actor: Steerer, session: WriteSession) -> AuditView:
    """Delete a branch that is empty."""
    return view_entry(branches.delete(session, actor, name, branch, asked.reason))


@router.get(SETTINGS)
def list_settings(name: Slug, session: ReadSession, cursor: Cursor = None, limit: Limit = 50) -> Page[ProjectVersion]:
    """All versions of a project's settings, the newest first, which holds now."""
    return project_settings.view_versions(session, get_project(session, name), cursor, limit)


@router.post(f"{SETTINGS}/preview", dependencies=ADMINISTERING)
def preview_settings(name: Slug, asked: SettingsChange, session: ReadSession) -> SettingsPreview:
    """Say what a change of settings would do, and change nothing."""
    return projects.preview(session, name, asked)


@router.post(SETTINGS)
def change_settings(name: Slug, asked: SettingsRequest, actor: Administrator, session: WriteSession) -> AuditView:
    """Save a new version of a project's settings: title, notice, mode, weight, who may join, job mix."""
    return view_entry(projects.change_settings(session, actor, name, asked, asked.reason))


@router.post(f"{SETTINGS}/restoration")
def restore_settings(name: Slug, asked: SettingsRestoration, actor: Administrator, session: WriteSession) -> AuditView:
    """Save the settings of an earlier version as a new one."""
    return view_entry(projects.restore_version(session, actor, name, asked.version, asked.reason))


own_router = APIRouter(prefix=API_PREFIX, tags=["accounts"], dependencies=KNOWN_ONLY)
"""Of tokens and profiles, which are everybody's own."""


def _identify(session: Session, token: str | None) -> tuple[Actor, int]:
    """The account that asks, with its duties if its token carries them, and the number of that token."""
    caller = authorize(session, token, Permission.WORK)
    role = Role(caller.role) if caller.scope == TokenScope.DUTIES else Role.VOLUNTEER
    return Actor(caller.name, caller.id, role, ActionSource.API), accounts.get_token(session, token or "").id


@own_router.get("/accounts/{name}/tokens")
def list_tokens(name: Slug, session: ReadSession, token: BearerToken) -> Page[TokenView]:
    """An account's tokens, newest first: one's own, or as a maintainer those of others."""
    if authorize(session, token, Permission.WORK).name != name:
        authorize(session, token, Permission.ADMINISTER)
    return accounts.view_tokens(session, name)


@own_router.post("/accounts/{name}/tokens", status_code=status.HTTP_201_CREATED)
def create_token(name: Slug, asked: TokenRequest, token: BearerToken, session: WriteSession) -> NewSecret:
    """Make a worker's token: one's own, or as a maintainer somebody else's. It comes with the answer, and never again.
    One's own ends with the token that signs this request, if that is revoked."""
    actor, token_id = _identify(session, token)
    if name == actor.name:
        return service.create_token(session, actor, name, asked, made_with_id=token_id)
    authorize(session, token, Permission.ADMINISTER)
    return service.create_token(session, actor, name, asked)


@own_router.post("/accounts/{name}/profile")
def change_profile(name: Slug, asked: Profile, token: BearerToken, session: WriteSession) -> AuditView:
    """Change how an account is shown to others: one's own, or as a maintainer somebody else's."""
    return view_entry(service.change_profile(session, _identify(session, token)[0], name, asked))


@own_router.post("/login-codes", status_code=status.HTTP_201_CREATED)
def create_code(token: BearerToken, session: WriteSession) -> NewSecret:
    """Make a code by which another machine of one's own gets a worker's token (`POST /sign-in`): once, within 10
    minutes."""
    actor, token_id = _identify(session, token)
    return service.create_code(session, actor, token_id)


@own_router.post("/tokens/{token_id}/label")
def label_token(token_id: RowId, asked: TokenLabel, token: BearerToken, session: WriteSession) -> AuditView:
    """Say in other words what a token is for: one's own, or as a maintainer somebody else's."""
    return view_entry(service.label_token(session, _identify(session, token)[0], token_id, asked.label))


@own_router.post("/tokens/{token_id}/revocation")
def revoke_token(token_id: RowId, asked: TokenRevocation, token: BearerToken, session: WriteSession) -> AuditView:
    """Make a token invalid at once, and those that were made with it: one's own, or as a maintainer somebody else's."""
    actor, _ = _identify(session, token)
    return view_entry(service.revoke_token(session, actor, token_id, asked.reason, alone=asked.alone))


router.routes.extend(own_router.routes)
