"""Tokens and profiles over HTTP: those of one's own account, and as a maintainer those of others."""

from typing import NamedTuple

from fastapi import APIRouter, status
from sqlalchemy.orm import Session

from coordinator.accounts import service as accounts
from coordinator.accounts.permissions import Permission
from coordinator.accounts.security import BearerToken
from coordinator.accounts.service import authorize
from coordinator.db.database import ReadSession, WriteSession
from coordinator.events.audit import Actor
from coordinator.http.pagination import RowId
from coordinator.moderation import service
from shared.moderation import (
    ActionSource,
    AuditView,
    NewSecret,
    Profile,
    TokenLabel,
    TokenRequest,
    TokenRevocation,
    TokenView,
)
from shared.protocol import API_PREFIX, Page, Slug
from shared.workers import Role, TokenScope

router = APIRouter(prefix=API_PREFIX, tags=["accounts"])


class TokenHolder(NamedTuple):
    """The account that asks, with its duties if its token carries them, and the number of that token."""

    actor: Actor
    token_id: int


def _identify(session: Session, token: str | None) -> TokenHolder:
    caller = authorize(session, token, Permission.WORK)
    role = Role(caller.role) if caller.scope == TokenScope.DUTIES else Role.VOLUNTEER
    row = accounts.get_token(session, token or "")
    return TokenHolder(Actor(caller.name, caller.id, role, ActionSource.API), row.id)


@router.get("/accounts/{name}/tokens")
def list_tokens(name: Slug, session: ReadSession, token: BearerToken) -> Page[TokenView]:
    """An account's tokens, newest first: one's own, or as a maintainer those of others."""
    if authorize(session, token, Permission.WORK).name != name:
        authorize(session, token, Permission.ADMINISTER)
    return accounts.view_tokens(session, name)


@router.post("/accounts/{name}/tokens", status_code=status.HTTP_201_CREATED)
def create_token(name: Slug, asked: TokenRequest, token: BearerToken, session: WriteSession) -> NewSecret:
    """Make a worker's token: one's own, or as a maintainer somebody else's. It comes with the answer, and never again.
    One's own ends with the token that signs this request, if that is revoked."""
    actor, token_id = _identify(session, token)
    if name == actor.name:
        return service.create_token(session, actor, name, asked, made_with_id=token_id)
    authorize(session, token, Permission.ADMINISTER)
    return service.create_token(session, actor, name, asked)


@router.post("/accounts/{name}/profile")
def change_profile(name: Slug, asked: Profile, token: BearerToken, session: WriteSession) -> AuditView:
    """Change how an account is shown to others: one's own, or as a maintainer somebody else's."""
    return service.view(service.change_profile(session, _identify(session, token).actor, name, asked))


@router.post("/login-codes", status_code=status.HTTP_201_CREATED)
def create_code(token: BearerToken, session: WriteSession) -> NewSecret:
    """Make a code by which another machine of one's own gets a worker's token (`POST /sign-in`): once, within 10
    minutes."""
    actor, token_id = _identify(session, token)
    return service.create_code(session, actor, token_id)


@router.post("/tokens/{token_id}/label")
def label_token(token_id: RowId, asked: TokenLabel, token: BearerToken, session: WriteSession) -> AuditView:
    """Say in other words what a token is for: one's own, or as a maintainer somebody else's."""
    return service.view(service.label_token(session, _identify(session, token).actor, token_id, asked.label))


@router.post("/tokens/{token_id}/revocation")
def revoke_token(token_id: RowId, asked: TokenRevocation, token: BearerToken, session: WriteSession) -> AuditView:
    """Make a token invalid at once, and those that were made with it: one's own, or as a maintainer somebody else's."""
    actor = _identify(session, token).actor
    return service.view(service.revoke_token(session, actor, token_id, asked.reason, alone=asked.alone))
