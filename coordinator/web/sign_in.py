"""The ways in and out for people with a browser."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from coordinator.accounts import sessions as service
from coordinator.db.database import WriteSession
from coordinator.http.errors import SwarmError
from coordinator.http.prefix import root
from coordinator.web.rendering import render
from coordinator.web.sessions import (
    CsrfChecked,
    Visitor,
    read_next,
    redirect,
    sign_in_browser,
    sign_out_browser,
)

router = APIRouter(include_in_schema=False)

Next = Annotated[str, Form(alias="next", max_length=2_000)]


@router.get("/sign-in")
def show_sign_in(visitor: Visitor, next: str = "", link: str = "") -> Response:
    """The forms for a password, a token or a sign-in link. Opening a link does not use it up; its button does."""
    following = read_next(next)
    if visitor is not None and not link:
        return RedirectResponse(root() + following, 303)
    return render("sign_in/sign_in.html", following=following, link=link, problem="")


@router.post("/sign-in", dependencies=[CsrfChecked])
def sign_in(
    request: Request, session: WriteSession, secret: Annotated[str, Form(max_length=200)], following: Next = "/"
) -> Response:
    """Sign in with a token or a sign-in link."""
    following = read_next(following)
    try:
        cookie = service.sign_in(session, secret.strip(), request.headers.get("user-agent", ""))
    except SwarmError as error:
        return render("sign_in/sign_in.html", error.status, following=following, link="", problem=error.detail)
    sign_in_browser(request, cookie)
    return redirect(request, following)


@router.post("/sign-out", dependencies=[CsrfChecked])
def sign_out(request: Request, session: WriteSession) -> Response:
    """End this browser's session."""
    if request.state.visit is not None:
        service.end_session(session, request.state.visit.session_id)
    sign_out_browser(request)
    return redirect(request, "/", "You are signed out.")
