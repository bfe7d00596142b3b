"""Pages of maintainers and moderators about accounts and invitations: lists, and what may be done to one."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from sqlalchemy.orm import Session

from coordinator.accounts import queries
from coordinator.accounts import service as accounts
from coordinator.accounts.permissions import STAFF
from coordinator.db.database import CurrentDatabase, ReadSession, WriteSession
from coordinator.events import audit
from coordinator.events.audit import AuditFilters
from coordinator.http.pagination import Cursor, RowId
from coordinator.moderation import service
from coordinator.web.rendering import render
from coordinator.web.sessions import CsrfChecked, Maintainer, Moderator, act_as, redirect
from coordinator.web.sign_in import base_url
from shared.moderation import Days, InvitationRequest, Reason, SubjectKind, Uses
from shared.protocol import Slug, now
from shared.workers import Role

router = APIRouter(include_in_schema=False, prefix="/admin")

ROWS = 50
RECENT_ACTIONS = 20

Why = Annotated[Reason, Form(alias="reason")]
Start = Annotated[str, Query(max_length=63, pattern=r"^[a-z0-9-]*$")]


@router.get("/accounts")
def list_accounts(_visitor: Moderator, session: ReadSession, name: Start = "", cursor: Cursor = None) -> Response:
    """Accounts, newest first; those whose names begin so, if a beginning is given."""
    return render("accounts/list.html", found=accounts.view_accounts(session, cursor, ROWS, name), name=name)


@router.get("/accounts/{name}")
def show_account(request: Request, name: Slug, visitor: Moderator, session: ReadSession) -> Response:
    """An account: its state, its tokens, and what was done to it."""
    return _render_account(request, name, visitor, session)


def _render_account(request: Request, name: str, visitor: Moderator, session: Session, link: str = "") -> Response:
    account = accounts.get_account(session, name)
    page = {
        "account": account,
        "here": f"/admin/accounts/{name}/",
        "tokens": queries.list_tokens(session, account.id) if visitor.role == Role.MAINTAINER else [],
        "is_maintainer": visitor.role == Role.MAINTAINER,
        "is_of_staff": account.role in STAFF,
        "roles": list(Role),
        "actions": audit.view_page(session, AuditFilters(None, None, SubjectKind.ACCOUNT, name), None, RECENT_ACTIONS),
        "link": f"{base_url(request)}/sign-in?link={link}" if link else "",
    }
    return render("accounts/account.html", page=page)


@router.post("/accounts/{name}/approval", dependencies=[CsrfChecked])
def approve(request: Request, name: Slug, visitor: Moderator, session: WriteSession, reason: Why) -> Response:
    service.approve_account(session, act_as(visitor), name, reason)
    return redirect(request, f"/admin/accounts/{name}", f"{name} is approved.")


@router.post("/accounts/{name}/suspension", dependencies=[CsrfChecked])
def suspend(request: Request, name: Slug, visitor: Moderator, session: WriteSession, reason: Why) -> Response:
    service.set_suspension(session, act_as(visitor), name, reason, is_on=True)
    return redirect(request, f"/admin/accounts/{name}", f"{name} is suspended, and signed out everywhere.")


@router.post("/accounts/{name}/reinstatement", dependencies=[CsrfChecked])
def reinstate(request: Request, name: Slug, visitor: Moderator, session: WriteSession, reason: Why) -> Response:
    service.set_suspension(session, act_as(visitor), name, reason, is_on=False)
    return redirect(request, f"/admin/accounts/{name}", f"{name} is not suspended any more.")


@router.post("/accounts/{name}/quarantine", dependencies=[CsrfChecked])
def quarantine(request: Request, name: Slug, visitor: Moderator, session: WriteSession, reason: Why) -> Response:
    service.set_quarantine(session, act_as(visitor), name, None, reason, is_on=True)
    return redirect(request, f"/admin/accounts/{name}", f"{name} is in quarantine.")


@router.post("/accounts/{name}/release", dependencies=[CsrfChecked])
def release(request: Request, name: Slug, visitor: Moderator, session: WriteSession, reason: Why) -> Response:
    service.set_quarantine(session, act_as(visitor), name, None, reason, is_on=False)
    return redirect(request, f"/admin/accounts/{name}", f"{name} is not in quarantine any more.")


@router.post("/accounts/{name}/role", dependencies=[CsrfChecked])
def set_role(
    request: Request, name: Slug, visitor: Maintainer, session: WriteSession, role: Annotated[Role, Form()], reason: Why
) -> Response:
    service.set_role(session, act_as(visitor), name, role, reason)
    return redirect(request, f"/admin/accounts/{name}", f"{name} has the role {role}, and is signed out everywhere.")


@router.post("/accounts/{name}/sign-in-link", dependencies=[CsrfChecked])
def make_link(request: Request, name: Slug, visitor: Maintainer, database: CurrentDatabase, reason: Why) -> Response:
    """Make a sign-in link, as for a forgotten password. The page that answers shows it, once."""
    with database.write() as session:
        made = service.create_link(session, act_as(visitor), name, reason)
    with database.read() as session:
        return _render_account(request, name, visitor, session, made.secret)


@router.post("/accounts/{name}/tokens/{token_id}/revocation", dependencies=[CsrfChecked])
def revoke_token(
    request: Request, name: Slug, token_id: RowId, visitor: Maintainer, session: WriteSession, reason: Why
) -> Response:
    service.revoke_token(session, act_as(visitor), token_id, reason)
    return redirect(request, f"/admin/accounts/{name}", f"Token {token_id} is revoked.")


@router.get("/invitations")
def show_invitations(request: Request, session: ReadSession, _moderator: Moderator, cursor: Cursor = None) -> Response:
    """Invitations, newest first, without their secrets."""
    return _render_invitations(request, session, cursor)


def _render_invitations(request: Request, session: ReadSession, cursor: int | None, secret: str = "") -> Response:
    page = {
        "invitations": accounts.view_invitations(session, cursor, ROWS),
        "here": "/admin/invitations/",
        "revocation": "/revocation",
        "is_first": cursor is None,
        "now": now(),
        "secret": secret,
        "link": f"{base_url(request)}/join?invitation={secret}" if secret else "",
    }
    return render("accounts/invitations.html", page=page)


@router.post("/invitations", dependencies=[CsrfChecked])
def create_invitation(
    request: Request, database: CurrentDatabase, moderator: Moderator, reason: Why,
    uses: Annotated[Uses, Form(strict=False)] = 1, days: Annotated[Days, Form(strict=False)] = 7,
) -> Response:  # fmt: skip
    """Make an invitation. The page that answers shows it, once."""
    with database.write() as session:
        asked = InvitationRequest(reason=reason, uses=uses, days=days)
        made = service.create_invitation(session, act_as(moderator), asked)
    with database.read() as session:
        return _render_invitations(request, session, None, made.secret)


@router.post("/invitations/{invitation_id}/revocation", dependencies=[CsrfChecked])
def revoke_invitation(
    request: Request, invitation_id: RowId, moderator: Moderator, session: WriteSession,
    reason: Why,
) -> Response:  # fmt: skip
    """End an invitation. Accounts that were made with it stay."""
    service.revoke_invitation(session, act_as(moderator), invitation_id, reason)
    return redirect(request, "/admin/invitations", f"Invitation {invitation_id} is revoked.")
