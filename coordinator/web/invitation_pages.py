"""The page of invitations: making them, with an end and a count, and revoking them."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from coordinator.accounts import service as accounts
from coordinator.db.database import CurrentDatabase, ReadSession, WriteSession
from coordinator.http.pagination import Cursor, RowId
from coordinator.moderation import service
from coordinator.web.rendering import render
from coordinator.web.sessions import CsrfChecked, Moderator, act_as, redirect
from coordinator.web.sign_in import base_url
from shared.moderation import Days, InvitationRequest, Reason, Uses
from shared.protocol import now

router = APIRouter(include_in_schema=False, prefix="/admin/invitations")

ROWS = 50
REVOCATION = "/revocation"


@router.get("")
def show_invitations(request: Request, session: ReadSession, _moderator: Moderator, cursor: Cursor = None) -> Response:
    """Invitations, newest first, without their secrets."""
    return _render(request, session, cursor)


def _render(request: Request, session: ReadSession, cursor: int | None, secret: str = "") -> Response:
    page = {
        "invitations": accounts.view_invitations(session, cursor, ROWS),
        "here": f"{router.prefix}/",
        "revocation": REVOCATION,
        "is_first": cursor is None,
        "now": now(),
        "secret": secret,
        "link": f"{base_url(request)}/join?invitation={secret}" if secret else "",
    }
    return render("accounts/invitations.html", page=page)


@router.post("", dependencies=[CsrfChecked])
def create_invitation(
    request: Request, database: CurrentDatabase, moderator: Moderator, reason: Annotated[Reason, Form()],
    uses: Annotated[Uses, Form()] = 1, days: Annotated[Days, Form()] = 7,
) -> Response:  # fmt: skip
    """Make an invitation. The page that answers shows it, once."""
    with database.write() as session:
        asked = InvitationRequest(reason=reason, uses=uses, days=days)
        made = service.create_invitation(session, act_as(moderator), asked)
    with database.read() as session:
        return _render(request, session, None, made.secret)


@router.post("/{invitation_id}/revocation", dependencies=[CsrfChecked])
def revoke_invitation(
    request: Request, invitation_id: RowId, moderator: Moderator, session: WriteSession,
    reason: Annotated[Reason, Form()],
) -> Response:  # fmt: skip
    """End an invitation. Accounts that were made with it stay."""
    service.revoke_invitation(session, act_as(moderator), invitation_id, reason)
    return redirect(request, "/admin/invitations", f"Invitation {invitation_id} is revoked.")
