"""All forms of all pages, those to come included: without the token of its own session a form does nothing."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import ASGITransport

from coordinator.accounts.service import find_or_add_volunteer
from coordinator.accounts.sessions import end_sessions
from coordinator.db.database import Database
from coordinator.models import Volunteer
from coordinator.web import rendering
from coordinator.web.sessions import COOKIE, TYPED_FIELDS, draw_form_token
from shared.protocol import API_PREFIX, PROBLEM_MEDIA_TYPE
from shared.workers import Role
from tests.support.accounts import Browsing, browse_as, code_of, dump
from tests.support.databases import SqliteFolder

UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
GUARDED_OTHERWISE = (f"{API_PREFIX}/", "/git/")
"""Addresses that no cookie opens: they ask for a token in a header."""

REFUSAL = (403, "form-invalid")


@pytest.fixture
def database_url(sqlite_folder: SqliteFolder, tmp_path: Path) -> str:
    """SQLite alone: what is asked here does not depend on the engine."""
    return sqlite_folder.create_migrated(tmp_path)


def list_forms(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and an address of each route that takes a form."""
    for route in app.routes:
        path = getattr(route, "path", "")
        for method in sorted((getattr(route, "methods", None) or set()) & UNSAFE):
            if not path.startswith(GUARDED_OTHERWISE):
                yield method, re.sub(r"\{[^}]+\}", "1", path)


def test_every_form_asks_for_the_token_of_its_session(app: FastAPI, http: TestClient, database: Database) -> None:
    boss, other = browse_as(app, "boss", Role.MAINTAINER), browse_as(app, "other", Role.MAINTAINER)
    before = dump(database)

    def send(browser: Browsing, method: str, path: str, token: str | None, **headers: str) -> httpx.Response:
        fields = {"reason": "because"} | ({} if token is None else {"csrf": token})
        headers |= {"Accept": "application/json"}
        return browser.http.request(method, path, data=fields, headers=headers, follow_redirects=False)

    forms = list(list_forms(app))
    assert ("POST", "/sign-out") in forms
    for method, path in forms:
        own = draw_form_token(boss.secret)
        for token in (None, "", own[::-1], draw_form_token(other.secret)):
            assert code_of(send(boss, method, path, token)) == REFUSAL, path
        assert code_of(send(boss, method, path, own, Origin="https://evil.example")) == REFUSAL, path
        assert code_of(send(Browsing(app), method, path, own)) == REFUSAL, path
    assert dump(database) == before
    for method, path in forms:
        boss = browse_as(app, "boss", Role.MAINTAINER)
        answer = send(boss, method, path, draw_form_token(boss.secret))
        is_problem = answer.headers.get("content-type", "").startswith(PROBLEM_MEDIA_TYPE)
        assert not is_problem or code_of(answer) != REFUSAL, path


FOR_ANYBODY = ("/sign-in", "/sign-out", "/join", "/findings/1/report")
"""Forms that nobody needs to be signed in for."""


async def send_slowly(app: FastAPI, browser: Browsing, path: str, meanwhile: Callable[[], None]) -> httpx.Response:
    """Send a form of whose body a part comes only after something happened."""

    async def write_body() -> AsyncIterator[bytes]:
        yield f"csrf={draw_form_token(browser.secret)}&reason=because&label=mine".encode()
        meanwhile()
        yield b"&more=1"

    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
    cookies = {COOKIE: browser.secret}
    address = "http://testserver"
    async with httpx.AsyncClient(transport=ASGITransport(app), base_url=address, cookies=cookies) as http:
        return await http.post(path, content=write_body(), headers=headers)


def test_a_form_is_refused_whose_session_ends_while_it_is_sent(
    app: FastAPI, http: TestClient, database: Database
) -> None:
    """A thief, or a maintainer who is stopped, must not keep what they may do by forms that they finish afterwards."""
    with database.write() as session:
        account = find_or_add_volunteer(session, "boss").id
    paths = [path for _, path in list_forms(app) if path not in FOR_ANYBODY]
    assert {"/me/tokens", "/me/password", "/admin/queue"} <= set(paths)
    before = dump(database)

    def end() -> None:
        with database.write() as session:
            end_sessions(session, account)
            session.get_one(Volunteer, account).role = Role.VOLUNTEER

    for path in paths:
        answer = asyncio.run(send_slowly(app, browse_as(app, "boss", Role.MAINTAINER), path, end))
        assert answer.status_code == 401, path
    assert dump(database) == before


@pytest.mark.parametrize("has_cookie", [True, False])
def test_what_was_typed_is_shown_when_the_session_ended_meanwhile(
    app: FastAPI, http: TestClient, database: Database, has_cookie: bool
) -> None:
    boss = browse_as(app, "boss", Role.MAINTAINER)
    token = draw_form_token(boss.secret)
    with database.write() as session:
        end_sessions(session, session.query(Volunteer).filter_by(name="boss").one().id)
    if not has_cookie:
        boss.http.cookies.clear()
    came_from = {"Referer": "http://testserver/admin/queue?kind=held"}
    fields = {"csrf": token, "reason": "three <b>anchors</b> cannot repeat it", "items": "held:x", "action": "reject"}
    page = boss.http.post("/admin/queue", data=fields, headers=came_from, follow_redirects=False)
    assert page.status_code == (401 if has_cookie else 403)
    assert "three &lt;b&gt;anchors&lt;/b&gt; cannot repeat it" in page.text and "changed nothing" in page.text
    address = "/sign-in?next=/admin/queue%3Fkind%3Dheld" if has_cookie else "/admin/queue?kind=held"
    assert f'href="{address}" target="_blank"' in page.text
    elsewhere = {"Referer": "http://evil.example/admin/queue"}
    page = boss.http.post("/admin/queue", data=fields, headers=elsewhere, follow_redirects=False)
    assert "evil.example" not in page.text
    for name in ("Referer", "Origin"):
        page = boss.http.post("/admin/queue", data=fields, headers={name: "http://[x"}, follow_redirects=False)
        assert page.status_code in (401, 403) and "http://[x" not in page.text, "no address at all"
    password = boss.http.post("/me/password", data={"csrf": token, "password": "a secret of theirs"})
    assert "a secret of theirs" not in password.text


def test_what_was_typed_is_shown_by_whatever_refuses_it(app: FastAPI, http: TestClient, database: Database) -> None:
    boss = browse_as(app, "boss", Role.MAINTAINER)
    changes = {"workers/1/1": "workers/1/pause", "branches/1/1": "branches/1/pause"}
    refused = 0
    for _, path in list_forms(app):
        if path.startswith(("/sign-", "/join", "/me/sign-")):
            continue  # pages of their own show a name again, and no secret
        for general, special in changes.items():
            path = path.replace(general, special)
        answer = boss.post(
            path, reason="three <b>anchors</b>", items="held:" + "0" * 40, action="reject", next="/audit"
        )
        if answer.status_code == 303:
            assert 'class="message problem"' not in boss.get(answer.headers["location"]).text, path
        elif answer.status_code >= 400:
            refused += 1
            assert "three &lt;b&gt;anchors&lt;/b&gt;" in answer.text, path
    assert refused > 20


def test_the_fields_of_long_texts_are_among_those_that_are_shown_again() -> None:
    templates = (Path(rendering.__file__).parent / "templates").rglob("*.html")
    names = {name for path in templates for name in re.findall(r'<textarea[^>]* name="(\w+)"', path.read_text())}
    assert names and names <= TYPED_FIELDS
