"""The ways in and out for people with a browser."""

import socket
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from coordinator.accounts import passwords, sessions
from coordinator.accounts import service as accounts
from coordinator.accounts.service import JoinRules
from coordinator.db.database import CurrentDatabase, WriteSession
from coordinator.http.addresses import ClientAddress
from coordinator.http.errors import SwarmError
from coordinator.http.prefix import root
from coordinator.settings import CoordinatorSettings
from coordinator.web.rendering import render
from coordinator.web.sessions import CsrfChecked, Visitor, read_next, redirect, sign_in_browser, sign_out_browser

router = APIRouter(include_in_schema=False)

Word = Annotated[str, Form(max_length=200)]
Password = Annotated[str, Form(max_length=1_000)]
UNKNOWN_ADDRESS = "https://ADDRESS-OF-THIS-COORDINATOR"
"""Stands in commands and links for an address that nobody vouches for."""

Next = Annotated[str, Form(alias="next", max_length=2_000)]


def _read_browser(request: Request) -> str:
    return request.headers.get("user-agent", "")


def base_url(request: Request) -> str:
    """The address that people give to their workers: the one in the settings, else the one that they came by, if it
    names this machine. A request may state any other, and a copied command would send a token there."""
    settings: CoordinatorSettings = request.app.state.settings
    if settings.public_url:
        return settings.base_url
    machine = socket.gethostname().lower()
    own = {request.scope["server"][0], settings.host, "localhost", machine, f"{machine}.local"}
    return str(request.base_url).rstrip("/") if request.base_url.hostname in own else UNKNOWN_ADDRESS


@router.get("/sign-in")
def show_sign_in(visitor: Visitor, next: str = "", link: str = "") -> Response:
    """The forms for a password, a token or a sign-in link. Opening a link does not use it up; its button does."""
    following = read_next(next)
    if visitor is not None and not link:
        return RedirectResponse(root() + following, 303)
    return render("sign_in/sign_in.html", following=following, link=link, name="", problem="")


@router.post("/sign-in", dependencies=[CsrfChecked])
def sign_in(
    request: Request, database: CurrentDatabase, address: ClientAddress, name: Word = "", password: Password = "",
    secret: Word = "", following: Next = "",
) -> Response:  # fmt: skip
    """Sign in with a name and a password, or with a token or sign-in link."""
    following, attempts, browser = read_next(following), request.app.state.attempts, _read_browser(request)
    try:
        if secret.strip():
            with database.write() as session:
                cookie = sessions.sign_in(session, secret.strip(), browser)
        else:
            cookie = passwords.sign_in(database, attempts, name.strip().lower(), password, address, browser)
    except SwarmError as error:
        shown = {"following": following, "link": "", "name": name, "problem": error.detail}
        page = render("sign_in/sign_in.html", error.status, **shown)
        page.headers.update(error.headers)
        return page
    sign_in_browser(request, cookie)
    return redirect(request, following)


@router.post("/sign-out", dependencies=[CsrfChecked])
def sign_out(request: Request, session: WriteSession) -> Response:
    """End this browser's session."""
    if request.state.visit is not None:
        sessions.end_session(session, request.state.visit.session_id)
    sign_out_browser(request)
    return redirect(request, "/", "You are signed out.")


@router.get("/join")
def show_join(request: Request, invitation: str = "") -> Response:
    """The form for a new account, in the words of the mode of joining."""
    return _render_join(request, invitation=invitation)


@router.post("/join", dependencies=[CsrfChecked])
def join(
    request: Request, database: CurrentDatabase, address: ClientAddress, name: Word, password: Password = "",
    invitation: Word = "",
) -> Response:  # fmt: skip
    """Make an account, and sign its owner in. Its first token is shown once, with the commands for a machine."""
    name, rules = name.strip().lower(), JoinRules.of(request.app.state.settings)
    try:
        asked = accounts.read_sign_up(name, invitation.strip() or None)
        joined = passwords.join(
            database, request.app.state.attempts, asked, rules, address, password, _read_browser(request)
        )
    except SwarmError as error:
        problem = f"{error.title}. {error.detail}"
        return _render_join(request, error.status, name=name, invitation=invitation, problem=problem)
    sign_in_browser(request, joined.secret)
    return render("sign_in/joined.html", 201, joined=joined, base_url=base_url(request))


def _render_join(
    request: Request, status_code: int = 200, name: str = "", invitation: str = "", problem: str = ""
) -> Response:
    rules = JoinRules.of(request.app.state.settings)
    return render(
        "sign_in/join.html", status_code, rules=rules, name=name, invitation=invitation, problem=problem,
        shortest=passwords.SHORTEST,
    )  # fmt: skip
