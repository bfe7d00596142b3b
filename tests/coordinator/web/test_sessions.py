"""Cookies of sessions, what ends one, and what guards forms. A small application with a page of each kind is enough."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient

from coordinator.accounts.service import add_token, find_or_add_volunteer
from coordinator.accounts.sessions import start_session
from coordinator.db.database import Database
from coordinator.web.sessions import (
    CsrfChecked,
    Maintainer,
    Moderator,
    SignedIn,
    Visitor,
    draw_form_token,
    read_next,
    redirect,
)
from shared.workers import Role, TokenScope
from tests.support.accounts import Browsing, browse_as
from tests.support.databases import SqliteFolder


@pytest.fixture
def database_url(sqlite_folder: SqliteFolder, tmp_path: Path) -> str:
    """SQLite alone: what is asked here does not depend on the engine."""
    return sqlite_folder.create_migrated(tmp_path)


@pytest.fixture
def pages(app: FastAPI, http: TestClient) -> FastAPI:
    """The application with a page for each kind of visitor, and a form."""

    @app.get("/pages/any")
    def show_any(visitor: Visitor) -> Response:
        return Response(visitor.name if visitor else "stranger", media_type="text/html")

    @app.get("/pages/own")
    def show_own(visitor: SignedIn) -> str:
        return visitor.name

    @app.get("/pages/moderator")
    def show_moderator(visitor: Moderator) -> str:
        return visitor.name

    @app.get("/pages/maintainer")
    def show_maintainer(visitor: Maintainer) -> str:
        return visitor.name

    @app.post("/pages/form", dependencies=[CsrfChecked])
    def take_form(request: Request, visitor: SignedIn) -> Response:
        return redirect(request, "/docs", f"Done for {visitor.name} <b>.")

    return app


def test_pages_know_who_is_signed_in(pages: FastAPI) -> None:
    ada = browse_as(pages, "ada")
    assert ada.get("/pages/any").text == "ada" and Browsing(pages).get("/pages/any").text == "stranger"
    assert "<bdi>ada</bdi>" in ada.get("/docs").text and "Sign in" not in ada.get("/docs").text
    assert "Sign in" in Browsing(pages).get("/docs").text
    assert "<bdi>ada</bdi>" in ada.get("/nothing").text, "pages of errors too"


def test_strangers_are_led_to_the_sign_in_and_back(pages: FastAPI) -> None:
    answer = Browsing(pages).get("/pages/own?a=1&b=%2F")
    assert answer.status_code == 303 and answer.headers["location"] == "/sign-in?next=/pages/own%3Fa%3D1%26b%3D%252F"
    assert TestClient(pages).get("/pages/own").status_code == 401, "a program gets a problem document"
    partial = TestClient(pages).get("/pages/own", headers={"HX-Request": "true"})
    assert partial.headers["hx-redirect"].startswith("/sign-in?next="), "htmx does not put the sign-in into its page"


@pytest.mark.parametrize(
    ("role", "allowed"),
    [(Role.VOLUNTEER, set()), (Role.RESEARCHER, set()), (Role.MODERATOR, {"moderator"}),
     (Role.MAINTAINER, {"moderator", "maintainer"})],
)  # fmt: skip
def test_pages_of_duties_are_for_those_who_have_them(pages: FastAPI, role: Role, allowed: set[str]) -> None:
    browser = browse_as(pages, "ada", role)
    answers = {name: browser.get(f"/pages/{name}") for name in ("moderator", "maintainer")}
    assert {name for name, answer in answers.items() if answer.status_code == 200} == allowed
    refused = [answer for answer in answers.values() if answer.status_code != 200]
    assert all(answer.status_code == 403 and "this account is a" in answer.text for answer in refused)


def test_a_session_that_began_with_a_workers_token_has_no_duties(pages: FastAPI, database: Database) -> None:
    with database.write() as session:
        account = find_or_add_volunteer(session, "ada")
        account.role = Role.MAINTAINER
        token, _ = add_token(session, account, "box", TokenScope.WORK, None)
        secret = start_session(session, account.id, TokenScope.WORK, "test", token.id)
    refused = Browsing(pages, secret).get("/pages/moderator")
    assert refused.status_code == 403 and "carries no duties" in refused.text


def cookies_of(response: object) -> Iterator[str]:
    yield from response.headers.get_list("set-cookie")  # type: ignore[attr-defined]


def test_forms_need_the_token_of_their_own_session(pages: FastAPI) -> None:
    ada, bob = browse_as(pages, "ada"), browse_as(pages, "bob")
    assert ada.post("/pages/form").status_code == 303
    assert ada.post("/pages/form", csrf=draw_form_token(bob.secret)).status_code == 403
    for wrong in ("", "x", "%%%", draw_form_token(ada.secret)[:-4], draw_form_token(ada.secret)[4:]):
        refused = ada.post("/pages/form", csrf=wrong)
        assert refused.status_code == 403 and "Load it again, and send the form anew" in refused.text
    assert ada.http.post("/pages/form", headers={"X-CSRF-Token": draw_form_token(ada.secret)}).status_code == 200
    assert ada.http.post("/pages/form", json={"csrf": draw_form_token(ada.secret)}).status_code == 403


def test_forms_of_other_sites_are_refused(pages: FastAPI) -> None:
    ada = browse_as(pages, "ada")
    token = {"csrf": draw_form_token(ada.secret)}
    own: list[dict[str, str]] = [{}, {"Origin": "http://testserver"}, {"Sec-Fetch-Site": "same-origin"}]
    other = [
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"},
    ]  # fmt: skip
    for headers in own:
        assert ada.http.post("/pages/form", data=token, headers=headers, follow_redirects=False).status_code == 303
    for headers in other:
        assert ada.http.post("/pages/form", data=token, headers=headers).status_code == 403, headers


def test_a_message_is_shown_once_and_only_to_the_browser_it_is_for(pages: FastAPI) -> None:
    ada, bob = browse_as(pages, "ada"), browse_as(pages, "bob")
    answer = ada.post("/pages/form")
    waiting = ada.http.cookies["swarm_messages"]
    assert answer.headers["location"] == "/docs"
    assert "Done for ada &lt;b&gt;." in ada.get("/docs").text
    assert "Done for ada" not in ada.get("/docs").text
    bob.http.cookies.set("swarm_messages", waiting)
    assert "Done for ada" not in bob.get("/docs").text


def test_no_cache_keeps_what_a_visitor_saw(pages: FastAPI) -> None:
    ada, stranger = browse_as(pages, "ada"), Browsing(pages)
    for page in (ada.get("/docs"), stranger.get("/docs"), ada.get("/nothing"), stranger.get("/pages/own")):
        assert "Cookie" in page.headers["vary"], page.url
    assert ada.get("/docs").headers["cache-control"] == ada.get("/nothing").headers["cache-control"] == "no-store"
    public = stranger.get("/docs")
    assert public.headers["cache-control"] == "no-cache" and list(cookies_of(public)) == []
    assert ada.http.get("/docs", headers={"If-None-Match": public.headers["etag"]}).status_code == 200
    assert stranger.http.get("/docs", headers={"If-None-Match": public.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    "address",
    ["//evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example", "javascript:alert(1)", "",
     "/\t/evil.example", "/ /evil.example", "/x\r\nLocation: //evil.example", "evil.example", "/a\\b", "///", "/\x00",
     " /me", "http:/evil.example", "/" + "x" * 2000, "/%0d%0a\n"],
)  # fmt: skip
def test_other_sites_are_no_place_to_go_on_to(address: str) -> None:
    assert read_next(address) == "/"


@pytest.mark.parametrize(
    "address", ["/", "/me", "/findings?project=x&q=a%20b", "/experiments/7#run-1", "/a//b", "/%2f"]
)
def test_pages_of_this_coordinator_are(address: str) -> None:
    assert read_next(address) == address
