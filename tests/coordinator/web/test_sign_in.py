"""Signing in and out, joining, and the page of one's own account, without a script."""

import re
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.accounts.passwords import hash_password, set_password
from coordinator.accounts.service import add_token, create_invitation, find_or_add_volunteer
from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.events.audit import Actor
from coordinator.moderation import service as moderation
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings, Joining
from coordinator.web.sessions import COOKIE
from shared.workers import Role, TokenScope
from tests.support.accounts import Browsing, Person, browse_as
from tests.support.crawler import PathProxy
from tests.support.databases import ON_ONE_ENGINE, SqliteFolder
from tests.support.seeds import write_seed
from tests.support.swarm_data import write_history

PASSWORD = "correct horse battery"
BOSS = Actor("test")


@pytest.fixture
def stranger(app: FastAPI, http: TestClient) -> Browsing:
    """A browser that has seen the form."""
    browser = Browsing(app)
    browser.get("/sign-in")
    return browser


@pytest.fixture
def past(database: Database, tmp_path: Path) -> None:
    """Experiments by ada's worker and by somebody else's."""
    with database.write() as session:
        write_history(session, create_project(session, write_seed(tmp_path / "seed"))[0], 12)


@cache
def hash_once(name: str) -> str:
    """The hash of PASSWORD, which takes as long as it does for a real account."""
    return hash_password(name, PASSWORD)


def add_account(database: Database, name: str = "ada", role: Role = Role.VOLUNTEER) -> tuple[str, str]:
    """An account with a password; returns a worker's token and a sign-in link."""
    with database.write() as session:
        account = find_or_add_volunteer(session, name)
        account.role = role
        set_password(session, account.id, hash_once(name), TokenScope.DUTIES)
        _, token = add_token(session, account, "box", TokenScope.WORK, None)
        return token, moderation.create_link(session, BOSS, name, "forgot it").secret


def who(browser: Browsing) -> str:
    """The name that pages show for who is signed in."""
    found = re.search(r'class="me"[^>]*><bdi>(.*?)</bdi>', browser.get("/problems").text)
    return found[1] if found else ""


@ON_ONE_ENGINE
def test_each_way_signs_in_and_leads_on(app: FastAPI, database: Database, stranger: Browsing) -> None:
    token, link = add_account(database)
    for fields in ({"name": " Ada ", "password": PASSWORD}, {"secret": token}, {"secret": f" {link}\n"}):
        browser = Browsing(app)
        browser.get("/sign-in?next=/projects/x")
        answer = browser.post("/sign-in", next="/me?a=1", **fields)
        assert answer.status_code == 303 and answer.headers["location"] == "/me?a=1"
        assert who(browser) == "ada"
        assert browser.get("/sign-in?next=/me").headers["location"] == "/me", "somebody who is signed in goes on"
    assert who(stranger) == ""


@ON_ONE_ENGINE
def test_every_failure_looks_the_same(database: Database, stranger: Browsing) -> None:
    add_account(database)

    def shown(**fields: str) -> tuple[int, str]:
        answer = stranger.post("/sign-in", **fields)
        text = re.sub(r'name="(csrf|name)"[^>]*>', "", answer.text)
        return answer.status_code, re.sub(r'value="[^"]*"', "", text)

    wrong = shown(name="ada", password="wrong")
    assert wrong[0] == 403 and "Name and password do not fit together" in wrong[1]
    assert (
        wrong
        == shown(name="nobody", password="wrong")
        == shown(name="", password="")
        == shown(name="a/b", password="x")
    )
    secret = shown(secret="swt_nothing")
    assert secret == shown(secret="swl_nothing") and "unknown, used or over" in secret[1]


@ON_ONE_ENGINE
def test_too_many_passwords_are_refused_with_the_time_to_wait(database: Database, stranger: Browsing) -> None:
    add_account(database)
    answers = [stranger.post("/sign-in", name="ada", password="wrong") for _ in range(11)]
    assert [answer.status_code for answer in answers] == [403] * 10 + [429]
    assert answers[-1].headers["retry-after"] == "900" and "quarter of an hour" in answers[-1].text
    assert stranger.post("/sign-in", name="ada", password=PASSWORD).status_code == 429
    _, link = add_account(database)
    assert stranger.post("/sign-in", secret=link).status_code == 303, "a link from a maintainer still works"


@ON_ONE_ENGINE
def test_a_link_is_used_by_its_button_not_by_opening_it(app: FastAPI, database: Database, stranger: Browsing) -> None:
    _, link = add_account(database, role=Role.MAINTAINER)
    for _ in range(2):  # mail programs look at links, too
        page = stranger.get(f"/sign-in?link={link}")
        assert page.status_code == 200 and who(stranger) == ""
    assert f'value="{link}"' in page.text
    assert stranger.post("/sign-in", secret=link).status_code == 303 and who(stranger) == "ada"
    second = Browsing(app)
    second.get("/sign-in")
    assert second.post("/sign-in", secret=link).status_code == 403


@ON_ONE_ENGINE
def test_a_sign_in_makes_a_new_session_whatever_cookie_was_there(
    app: FastAPI, database: Database, stranger: Browsing
) -> None:
    add_account(database)
    planted = stranger.http.cookies[COOKIE]
    stranger.post("/sign-in", name="ada", password=PASSWORD)
    first = stranger.http.cookies[COOKIE]
    stranger.post("/sign-in", name="ada", password=PASSWORD)
    assert len({planted, first, stranger.http.cookies[COOKIE]}) == 3
    attacker = Browsing(app, planted)
    assert who(attacker) == "", "what somebody planted before the sign-in opens nothing"


@ON_ONE_ENGINE
def test_a_sign_out_ends_the_session_on_the_server(app: FastAPI, database: Database, stranger: Browsing) -> None:
    add_account(database)
    stranger.post("/sign-in", name="ada", password=PASSWORD)
    stolen = Browsing(app, stranger.http.cookies[COOKIE])
    assert who(stolen) == "ada"
    assert "You are signed out" in stranger.http.post("/sign-out", data={"csrf": token_of(stranger, "/me")}).text
    assert who(stranger) == who(stolen) == ""
    assert stranger.get("/sign-out").status_code == 405, "no link or image signs anybody out"


def token_of(browser: Browsing, path: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', browser.get(path).text)
    assert found
    return found[1]


@ON_ONE_ENGINE
def test_a_suspended_account_is_told_why(database: Database, stranger: Browsing) -> None:
    token, _ = add_account(database)
    with database.write() as session:
        moderation.set_suspension(session, BOSS, "ada", "too much spam", is_on=True)
    assert "too much spam" in stranger.post("/sign-in", secret=token).text
    assert "too much spam" in stranger.post("/sign-in", name="ada", password=PASSWORD).text
    assert "too much spam" not in stranger.post("/sign-in", name="ada", password="wrong").text


class TestCookies:
    """The attributes of cookies, by where the coordinator stands."""

    @pytest.mark.parametrize(
        ("public_url", "name", "attributes"),
        [("", "swarm_session", {"httponly", "path=/", "samesite=lax"}),
         ("https://example.org", "__Host-swarm_session", {"httponly", "path=/", "samesite=lax", "secure"}),
         ("https://example.org/swarm", "__Secure-swarm_session", {"httponly", "path=/swarm", "samesite=lax", "secure"}),
         ("http://testserver/swarm", "swarm_session", {"httponly", "path=/swarm", "samesite=lax"})],
    )  # fmt: skip
    def test_attributes(
        self, tmp_path: Path, sqlite_folder: SqliteFolder, public_url: str, name: str, attributes: set[str]
    ) -> None:
        app = create_app(
            CoordinatorSettings(database_url=sqlite_folder.create_migrated(tmp_path), public_url=public_url)
        )
        prefix = "/swarm" if public_url.endswith("/swarm") else ""
        with TestClient(app) as http:
            (cookie,) = http.get(f"{prefix}/sign-in").headers.get_list("set-cookie")
        first, *others = cookie.split("; ")
        assert first.partition("=")[0] == name and len(first.partition("=")[2]) >= 43
        assert {part.lower() for part in others if not part.startswith(("Max-Age", "expires"))} == attributes

    def test_reading_sets_none(self, http: TestClient, project: str) -> None:
        for path in ("/", "/docs", "/findings", "/projects/tiny", "/api/v1/projects"):
            assert "set-cookie" not in http.get(path).headers


def test_behind_a_prefix_all_addresses_have_it(tmp_path: Path, sqlite_folder: SqliteFolder) -> None:
    url = sqlite_folder.create_migrated(tmp_path)
    app = create_app(CoordinatorSettings(database_url=url, public_url="http://testserver/swarm"))
    token, _ = add_account(app.state.database)
    with TestClient(PathProxy(app, "/swarm", removes=True)) as http:
        led = http.get("/swarm/me?a=1", headers={"Accept": "text/html"}, follow_redirects=False)
        assert led.headers["location"] == "/swarm/sign-in?next=/me%3Fa%3D1"
        page = http.get(led.headers["location"]).text
        csrf = re.search(r'name="csrf" value="([^"]+)"', page)
        assert csrf and 'action="/swarm/sign-in"' in page
        fields = {"csrf": csrf[1], "secret": token, "next": "/me?a=1"}
        answer = http.post("/swarm/sign-in", data=fields, follow_redirects=False)
        assert answer.headers["location"] == "/swarm/me?a=1"
        assert "<bdi>ada</bdi>" in http.get("/swarm/me").text
        fields["next"] = "//evil.example"
        again = http.get("/swarm/sign-in?next=//evil.example&link=x").text
        fields["csrf"] = re.findall(r'name="csrf" value="([^"]+)"', again)[0]
        assert http.post("/swarm/sign-in", data=fields, follow_redirects=False).headers["location"] == "/swarm/"


@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host", "X-Original-Host", "Forwarded"])
def test_a_false_host_changes_no_address(tmp_path: Path, sqlite_folder: SqliteFolder, header: str) -> None:
    url = sqlite_folder.create_migrated(tmp_path)
    app = create_app(CoordinatorSettings(database_url=url, public_url="https://swarm.example.org"))
    evil = "host=evil.example" if header == "Forwarded" else "evil.example"
    with TestClient(app, headers={header: evil, "Accept": "text/html"}) as http:
        for path in ("/", "/me", "/sign-in?next=/me", "/join", "/nothing", "/findings", "/docs/", "/sign-in/"):
            answer = http.get(path, follow_redirects=False)
            assert "evil.example" not in answer.text, path
            location = answer.headers.get("location", "")
            assert "evil.example" not in location or path.endswith("/"), path


@ON_ONE_ENGINE
class TestJoining:
    """The form for a new account, in each mode."""

    @pytest.fixture
    def settings(self, settings: CoordinatorSettings) -> Iterator[CoordinatorSettings]:
        """The settings, from which each mode makes an application of its own; they end with the test."""
        self.databases: list[Database] = []
        yield settings
        for database in self.databases:
            database.close()

    def join(self, settings: CoordinatorSettings, mode: Joining, **fields: str) -> tuple[Browsing, int, str]:
        app = create_app(settings.model_copy(update={"joining": mode}))
        self.databases.append(app.state.database)
        browser = Browsing(app)
        browser.get("/join")
        answer = browser.post("/join", **fields)
        return browser, answer.status_code, answer.text

    def test_anybody_joins_an_open_swarm(self, settings: CoordinatorSettings) -> None:
        browser, status, page = self.join(settings, Joining.OPEN, name=" Grace ", password=PASSWORD)
        assert status == 201 and "swarm-worker login --coordinator http://testserver" in page
        token = re.search(r"swt_[\w-]+", page)
        assert token and who(browser) == "grace" and "approve" not in page
        assert token[0] not in browser.get("/me").text, "it is shown once"
        http = TestClient(browser.http.app)
        assert (
            Person(http, "grace", token[0]).post("/workers/notices", {"worker": "w", "state": "paused"}).status_code
            == 404
        )

    def test_an_account_waits_for_its_approval(self, settings: CoordinatorSettings) -> None:
        browser, status, page = self.join(settings, Joining.APPROVAL, name="grace")
        assert status == 201 and "has to approve your account" in page
        assert "has not approved your account yet" in browser.get("/me").text
        assert browser.post("/me/tokens", label="box").status_code == 403

    def test_an_invitation_is_asked_for(self, settings: CoordinatorSettings, database: Database) -> None:
        _, status, page = self.join(settings, Joining.INVITATION, name="grace")
        assert status == 403 and "Ask a maintainer for an invitation" in page and 'value="grace"' in page
        with database.write() as session:
            _, secret = create_invitation(session, "boss", 1, 7)
        browser, status, _ = self.join(settings, Joining.INVITATION, name="grace", invitation=secret)
        assert status == 201 and who(browser) == "grace"
        _, status, page = self.join(settings, Joining.INVITATION, name="emmy", invitation=secret)
        assert status == 403 and "used up" in page and "join without one" not in page
        _, status, page = self.join(settings, Joining.OPEN, name="emmy", invitation=secret)
        assert status == 403 and "used up" in page and "join without one" in page

    @pytest.mark.parametrize(
        ("fields", "words"),
        [({"name": "Not a name"}, "lower-case letters"), ({"name": "admin"}, "Choose another"),
         ({"name": "grace", "password": "short"}, "12 to 200 characters"),
         ({"name": "taken"}, "a volunteer of that name"),
         ({"name": "grace", "invitation": "\x00" * 8}, "no invitation")],
    )  # fmt: skip
    def test_what_is_wrong_is_said_beside_the_form(
        self, settings: CoordinatorSettings, database: Database, fields: dict[str, str], words: str
    ) -> None:
        add_account(database, "taken")
        browser, status, page = self.join(settings, Joining.OPEN, **fields)
        assert 400 <= status < 500 and words in page and who(browser) == ""
        assert "<form" in page and 'role="alert"' in page


@ON_ONE_ENGINE
class TestOwnPage:
    """Tokens, password and sessions of the account that is signed in."""

    def test_a_token_is_shown_once_works_and_is_revoked(self, app: FastAPI, http: TestClient) -> None:
        ada = browse_as(app, "ada")
        made = ada.post("/me/tokens", label="the cellar <b>", days="30")
        token = re.search(r"swt_[\w-]+", made.text)
        assert token and "the cellar &lt;b&gt;" in made.text
        person, notice = Person(http, "ada", token[0]), {"worker": "w", "state": "paused"}
        assert person.post("/workers/notices", notice).status_code == 404, "the token counts, the worker is not known"
        for _ in range(2):  # the second time it is like that already
            assert ada.post("/me/tokens/1/label", label="the attic").status_code == 303
        assert "the attic" in ada.get("/me").text and token[0] not in ada.get("/me").text
        assert ada.post("/me/tokens/1/revocation").status_code == 303
        assert person.post("/workers/notices", notice).status_code == 401
        assert "the attic" not in ada.get("/me").text

    def test_nobody_revokes_anothers_token_here(self, app: FastAPI, http: TestClient, database: Database) -> None:
        add_account(database)
        boss = browse_as(app, "boss", Role.MAINTAINER)
        assert boss.post("/me/tokens/1/revocation").status_code == 403
        assert boss.post("/me/tokens/99/revocation").status_code == 404

    def test_a_session_by_a_token_makes_no_further_tokens(self, database: Database, stranger: Browsing) -> None:
        token, _ = add_account(database)
        stranger.post("/sign-in", secret=token)
        page = stranger.get("/me").text
        assert "carries no duties" in page and 'action="/me/tokens"' not in page
        assert stranger.post("/me/tokens", label="another").status_code == 403

    def test_an_account_in_quarantine_sees_why_and_writes_nothing(self, app: FastAPI, http: TestClient) -> None:
        ada = browse_as(app, "ada", quarantine="numbers do not repeat")
        assert "numbers do not repeat" in ada.get("/me").text
        assert ada.post("/me/tokens", label="box").status_code == 403
        assert ada.post("/me/profile", listed="false").status_code == 403

    def test_a_password_is_set_and_signs_in(self, app: FastAPI, stranger: Browsing) -> None:
        ada, phone = browse_as(app, "ada"), browse_as(app, "ada")
        assert ada.post("/me/password", password="short").headers["location"] == "/me#password"
        assert "12 to 200 characters" in ada.get("/me").text
        ada.post("/me/password", password=PASSWORD)
        assert "ada has a new password" in ada.get("/me").text and who(phone) == ""
        assert stranger.post("/sign-in", name="ada", password=PASSWORD).status_code == 303

    def test_all_other_browsers_are_signed_out(self, app: FastAPI, http: TestClient) -> None:
        ada, phone = browse_as(app, "ada"), browse_as(app, "ada")
        ada.post("/me/sign-out-everywhere")
        assert who(ada) == "ada" and who(phone) == ""

    def test_it_shows_own_workers_and_experiments_only(self, app: FastAPI, http: TestClient, past: None) -> None:
        page = browse_as(app, "ada").get("/me").text
        assert "<bdi>ada/w1</bdi>" in page and "gpu-cellar" not in page
        assert page.count('<a href="/experiments/') >= 2
        assert "None has asked for a job yet" in browse_as(app, "nobody-yet").get("/me").text


@ON_ONE_ENGINE
def test_commands_hold_no_address_of_another_machine(project: str, http: TestClient) -> None:
    """Without SWARM_PUBLIC_URL: a command that somebody copies sends a token to the address in it."""
    machine = socket.gethostname()
    for own in ("testserver", "localhost:8000", "127.0.0.1", f"{machine}:81", f"{machine}.local"):
        for path in ("/", f"/projects/{project}"):
            assert f"http://{own.lower()}" in http.get(path, headers={"Host": own}).text.lower()
    for other in (
        "evil.example",
        "localhost.evil.example:80",
        "9.9.9.9",
        "127.0.0.1@evil.example",
        "[evil.example",
        "",
    ):
        for path in ("/", f"/projects/{project}"):
            page = http.get(path, headers={"Host": other})
            shown = (
                "https://ADDRESS-OF-THIS-COORDINATOR" if other[:1].isalnum() and "@" not in other else "//testserver"
            )
            assert page.status_code == 200 and shown in page.text, other
            assert "evil.example" not in page.text and "9.9.9.9" not in page.text
