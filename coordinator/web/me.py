"""The page of the account that is signed in: its workers, tokens, experiments, sessions and password."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from pydantic import StringConstraints

from coordinator.accounts import passwords, sessions
from coordinator.accounts import queries as accounts_queries
from coordinator.accounts import service as accounts
from coordinator.accounts.permissions import STAFF, Permission, check
from coordinator.db.database import CurrentDatabase, ReadSession, WriteSession
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
from shared.moderation import MAX_DAYS, TokenRequest
from shared.protocol import CLEAN, ShortText
from shared.workers import Role, TokenScope

router = APIRouter(include_in_schema=False)

CitedName = Annotated[str, StringConstraints(strip_whitespace=True, max_length=120), CLEAN]

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
        "sessions": sessions.list_sessions(session, visitor.id),
        "own_session": visit.session_id,
        "is_by_token": visit.is_by_token,
        "is_of_staff": visitor.role in STAFF and visitor.scope == TokenScope.DUTIES,
        "has_password": passwords.has_password(session, visitor.name),
        "asks_for_password": passwords.has_password(session, visitor.name) and not passwords.is_fresh(visit),
        "shortest_password": passwords.SHORTEST,
        "experiments": experiments.list_of_volunteer(session, visitor.id, MAX_EXPERIMENTS),
        "is_listed": not account.is_unlisted,
        "cited_as": account.cited_as or "",
        "base_url": base_url(request),
        "new_token": "",
        "new_code": "",
    }
    return render("me/me.html", page=page | shown)


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
    actor = act_as(visitor)._replace(role=Role.VOLUNTEER)  # here somebody acts for himself, whatever his duties
    moderation.revoke_token(session, actor, token_id, "Revoked by its owner.")
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


@router.post("/me/leaderboard", dependencies=[CsrfChecked])
def choose_listing(
    request: Request, visitor: SignedIn, session: WriteSession, listed: Annotated[bool, Form()] = False
) -> Response:
    """Stand on the leaderboard, or on none."""
    accounts.set_listing(session, visitor.id, is_listed=listed)
    said = "stands on the leaderboard" if listed else "stands on no leaderboard any more, within a minute"
    return redirect(request, "/me#listing", f"{visitor.name} {said}.")


@router.post("/me/citations", dependencies=[CsrfChecked])
def choose_cited_name(
    request: Request, visitor: SignedIn, session: WriteSession, cited_as: Annotated[CitedName, Form()] = ""
) -> Response:
    """Be named in citations of snapshots, or not."""
    accounts.set_cited_name(session, visitor.id, cited_as)
    said = f"will be named as {cited_as}" if cited_as else "will not name you"
    return redirect(request, "/me#listing", f"Citations of later snapshots {said}.")


@router.post("/me/sign-out-everywhere", dependencies=[CsrfChecked])
def sign_out_everywhere(request: Request, visitor: SignedIn, session: WriteSession) -> Response:
    """End all my sessions but this one."""
    sessions.end_sessions(session, visitor.id, but=request.state.visit.session_id)
    return redirect(request, "/me", "All other browsers are signed out.")
