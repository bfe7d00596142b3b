"""The page of the account that is signed in: its workers, tokens, experiments, sessions and password."""

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from coordinator.accounts import passwords, sessions
from coordinator.accounts import queries as accounts_queries
from coordinator.accounts import service as accounts
from coordinator.accounts.permissions import STAFF, Caller, Permission, check
from coordinator.db.database import CurrentDatabase, ReadSession, WriteSession
from coordinator.events.audit import Actor
from coordinator.experiments import service as experiments
from coordinator.http.addresses import ClientAddress
from coordinator.http.errors import SwarmError
from coordinator.http.pagination import RowId
from coordinator.moderation import service as moderation
from coordinator.web.rendering import render
from coordinator.web.sessions import CsrfChecked, SignedIn, act_as, redirect
from coordinator.web.sign_in import Password, base_url
from coordinator.workers import queries as workers_queries
from coordinator.workers.queries import WorkerFilters
from shared.moderation import MAX_DAYS, CitedName, Profile, TokenRequest
from shared.protocol import ShortText
from shared.workers import Role, TokenScope

router = APIRouter(include_in_schema=False)

MAX_WORKERS, MAX_EXPERIMENTS = 100, 10
"""Rows that the page lists, the newest."""


@router.get("/me")
def show_me(request: Request, visitor: SignedIn, session: ReadSession) -> Response:
    """My account."""
    return _render_me(request, visitor, session)


def _render_me(request: Request, visitor: SignedIn, session: ReadSession, **shown: object) -> Response:
    visit, account = request.state.visit, accounts.get_account(session, visitor.name)
    page = {
        "workers": workers_queries.list_newest(session, WorkerFilters(volunteer=visitor.name), None, MAX_WORKERS),
        "tokens": accounts_queries.list_tokens(session, visitor.id),
        "sessions": sessions.list_sessions(session, visitor.id), "own_session": visit.session_id,
        "is_by_token": visit.is_by_token, "is_of_staff": visitor.role in STAFF and visitor.scope == TokenScope.DUTIES,
        "has_password": passwords.has_password(session, visitor.name),
        "asks_for_password": passwords.has_password(session, visitor.name) and not passwords.is_fresh(visit),
        "shortest_password": passwords.SHORTEST,
        "experiments": experiments.list_of_volunteer(session, visitor.id, MAX_EXPERIMENTS),
        "is_listed": not account.is_unlisted, "cited_as": account.cited_as or "", "base_url": base_url(request),
        "new_token": "", "new_code": "",
    }  # fmt: skip
    return render("me/me.html", page=page | shown)


def _act_for_oneself(visitor: Caller) -> Actor:
    """The actor of an action on the own account alone, whatever the duties."""
    return act_as(visitor)._replace(role=Role.VOLUNTEER)


@router.post("/me/tokens", dependencies=[CsrfChecked])
def create_token(
    request: Request, visitor: SignedIn, database: CurrentDatabase, label: Annotated[ShortText, Form()],
    days: Annotated[str, Form(pattern=r"^\d{0,4}$")] = "",
) -> Response:  # fmt: skip
    """Make a token for a worker. The page that answers shows it, once."""
    check(visitor, Permission.WORK)
    asked = TokenRequest(label=label, days=min(max(1, int(days)), MAX_DAYS) if days else None)
    sessions.check_not_by_token(request.state.visit)
    with database.write() as session:
        made = moderation.create_token(session, act_as(visitor), visitor.name, asked)
    with database.read() as session:
        return _render_me(request, visitor, session, new_token=made.secret)


@router.post("/me/login-code", dependencies=[CsrfChecked])
def create_code(request: Request, visitor: SignedIn, database: CurrentDatabase) -> Response:
    """Make a code by which another machine logs in. The page that answers shows it, once."""
    check(visitor, Permission.WORK)
    sessions.check_not_by_token(request.state.visit)
    with database.write() as session:
        made = moderation.create_code(session, act_as(visitor))
    with database.read() as session:
        return _render_me(request, visitor, session, new_code=made.secret)


@router.post("/me/tokens/{token_id}/revocation", dependencies=[CsrfChecked])
def revoke_token(request: Request, token_id: RowId, visitor: SignedIn, session: WriteSession) -> Response:
    """Make one of my tokens invalid at once, and those that were made with it."""
    moderation.revoke_token(session, _act_for_oneself(visitor), token_id, "Revoked by its owner.")
    return redirect(request, "/me", "The token is revoked, with those that were made with it: none counts any more.")


@router.post("/me/password", dependencies=[CsrfChecked])
def change_password(
    request: Request, visitor: SignedIn, database: CurrentDatabase, address: ClientAddress, password: Password,
    current: Password = "",
) -> Response:  # fmt: skip
    """Set or change my password, and sign all my other browsers out."""
    attempts, visit = request.app.state.attempts, request.state.visit
    try:
        passwords.change_password(database, attempts, visit, current, password, address)
    except SwarmError as error:
        return redirect(request, "/me#password", error.detail, "problem")
    return redirect(request, "/me", f"{visitor.name} has a new password. Other browsers are signed out.")


@router.post("/me/tokens/{token_id}/label", dependencies=[CsrfChecked])
def label_token(
    request: Request, token_id: RowId, visitor: SignedIn, database: CurrentDatabase, label: Annotated[ShortText, Form()]
) -> Response:
    """Say in other words what one of my tokens is for."""
    check(visitor, Permission.WORK)
    with suppress(moderation.NothingChangesError), database.write() as session:
        moderation.label_token(session, _act_for_oneself(visitor), token_id, label)
    return redirect(request, "/me#tokens-title", f"Token {token_id} is for {label}.")


@router.post("/me/profile", dependencies=[CsrfChecked])
def change_profile(
    request: Request, visitor: SignedIn, database: CurrentDatabase, listed: Annotated[bool | None, Form()] = None,
    cited_as: Annotated[CitedName, Form()] = "",
) -> Response:  # fmt: skip
    """Stand on the leaderboard or on none, and be named in citations of snapshots or not."""
    check(visitor, Permission.WORK)
    name = cited_as if listed is None else None  # the page has a form for each; an empty field arrives as none
    asked = Profile(is_listed=listed, cited_as=name, reason="Chosen by its owner.")
    with suppress(moderation.NothingChangesError), database.write() as session:
        moderation.change_profile(session, _act_for_oneself(visitor), visitor.name, asked)
    return redirect(
        request, "/me#listing", "It is saved. Leaderboards follow within a minute, citations with the next snapshot."
    )


@router.post("/me/sign-out-everywhere", dependencies=[CsrfChecked])
def sign_out_everywhere(request: Request, visitor: SignedIn, session: WriteSession) -> Response:
    """End all my sessions but this one."""
    sessions.end_sessions(session, visitor.id, but=request.state.visit.session_id)
    return redirect(request, "/me", "All other browsers are signed out.")
