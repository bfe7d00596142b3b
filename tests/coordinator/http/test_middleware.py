"""Headers of every answer, its tags and links, and a swarm that only those with a token may read."""

from base64 import b64encode
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.accounts.service import create_invitation
from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.events.audit import Actor
from coordinator.http.middleware import read_token
from coordinator.moderation import service as moderation
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from tests.support.accounts import Browsing, browse_as, code_of
from tests.support.databases import ON_ONE_ENGINE, SqliteFolder
from tests.support.seeds import write_seed
from tests.support.swarm_data import write_history
from tests.support.tokens import create_token

CLOSED = ["/", "/projects/tiny", "/api/v1/projects", "/api/v1/events", "/git/tiny.bundle", "/docs",
          "/api/v1/projects/tiny/export/runs.csv"]  # fmt: skip


@pytest.fixture
def past(database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        write_history(session, create_project(session, write_seed(tmp_path / "seed"))[0], 6)


def test_what_has_not_changed_is_not_sent_again(past: None, http: TestClient) -> None:
    first = http.get("/api/v1/experiments?project=tiny")
    again = http.get("/api/v1/experiments?project=tiny", headers={"If-None-Match": f'"x", {first.headers["ETag"]}'})
    assert again.status_code == 304 and again.content == b"" and again.headers["ETag"] == first.headers["ETag"]
    other = http.get("/api/v1/experiments?project=tiny&limit=2")
    assert other.headers["ETag"] != first.headers["ETag"]
    assert "ETag" not in http.get("/api/v1/experiments?project=nope").headers
    streamed = http.get("/api/v1/projects/tiny/export/runs.jsonl")
    assert streamed.status_code == 200 and "ETag" not in streamed.headers, "a stream is not held back to be whole"


def test_pages_are_linked_until_they_end(past: None, http: TestClient) -> None:
    address: str | None = "/api/v1/runs?project=tiny&limit=4"
    ids: list[int] = []
    while address is not None:
        page = http.get(address)
        ids += [row["id"] for row in page.json()["items"]]
        cursor = page.json()["next_cursor"]
        assert (cursor is None) == ("Link" not in page.headers)
        address = page.links["next"]["url"] if cursor else None
    assert len(ids) >= 9 and ids == sorted(set(ids), reverse=True)


def test_only_our_own_scripts_run(http: TestClient, project: str) -> None:
    for path in ("/", "/docs", "/api/v1/projects", "/nothing"):
        headers = http.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


class TestClosedReading:
    """A swarm that only accounts may read whom a maintainer approved."""

    @pytest.fixture
    def settings(self, tmp_path: Path, sqlite_folder: SqliteFolder) -> CoordinatorSettings:
        return CoordinatorSettings(database_url=sqlite_folder.create_migrated(tmp_path), public_reading=False)

    @pytest.fixture
    def token(self, database: Database, project: str) -> str:
        with database.write() as session:
            return create_token(session, "ada", "test")

    def test_everything_but_the_way_in_asks_for_a_token(self, http: TestClient, token: str) -> None:
        for address in CLOSED:
            refused = http.get(address)
            assert refused.status_code == 401, address
            assert refused.headers["content-type"] == "application/problem+json"
            challenge = "Basic" if address.startswith("/git/") else "Bearer"
            assert refused.headers["www-authenticate"].startswith(challenge), address
        assert http.get("/api/v1/projects", headers={"Authorization": "Bearer swt_wrong"}).status_code == 401
        for address in (name for name in CLOSED if name != "/api/v1/events"):
            assert http.get(address, headers={"Authorization": f"Bearer {token}"}).status_code == 200, address
        for address in ("/api/v1/versions", "/sign-in", "/join", "/static/swarm.css", "/healthz", "/problems"):
            assert http.get(address).status_code == 200

    def test_a_token_as_a_password_is_for_git_alone(self, http: TestClient, token: str) -> None:
        basic = {"Authorization": "Basic " + b64encode(f"anybody:{token}".encode()).decode()}
        for address in (name for name in CLOSED if name != "/api/v1/events"):
            assert http.get(address, headers=basic).status_code == (200 if address.startswith("/git/") else 401), (
                address
            )

    def test_browsers_are_led_to_the_sign_in_and_read_with_a_session(
        self, app: FastAPI, http: TestClient, token: str
    ) -> None:
        stranger, ada = Browsing(app), browse_as(app, "ada")
        led = stranger.get("/projects/tiny?a=1")
        assert led.status_code == 303 and led.headers["location"] == "/sign-in?next=/projects/tiny%3Fa%3D1"
        assert "www-authenticate" not in led.headers, "or the browser would ask for a name and a password itself"
        for address in (name for name in CLOSED if name != "/api/v1/events"):
            answer = ada.get(address)
            assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store", address
        assert ada.http.head("/api/v1/events").status_code == 200, "the feed of the pages' scripts"
        assert ada.http.post("/api/v1/findings/tried", json={"question": "x"}).status_code == 401, "cookies only read"

    def test_only_whom_a_maintainer_let_in_may_read(self, app: FastAPI, http: TestClient, database: Database) -> None:
        joined = http.post("/api/v1/accounts", json={"name": "grace"})
        headers = {"Authorization": f"Bearer {joined.json()['token']}"}
        early = browse_as(app, "emmy", is_approved=False)  # who joined before reading was closed
        assert code_of(http.get("/api/v1/projects", headers=headers)) == (403, "account-pending")
        refused = early.get("/docs")
        assert refused.status_code == 403 and "has not approved emmy yet" in refused.text
        assert early.get("/me").status_code == 200, "one's own page says so, too"
        with database.write() as session:
            for name in ("grace", "emmy"):
                moderation.approve_account(session, Actor("test"), name, "known from the course")
            _, secret = create_invitation(session, "boss", 1, 7)
        assert http.get("/api/v1/projects", headers=headers).status_code == early.get("/docs").status_code == 200
        invited = http.post("/api/v1/accounts", json={"name": "lise", "invitation": secret}).json()["token"]
        assert http.get("/docs", headers={"Authorization": f"Bearer {invited}"}).status_code == 200


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer  ", "Basic %%%", "Basic /w==", "Digest x", "Basic YWRhOg=="])
def test_what_is_no_token(header: str) -> None:
    assert read_token(header) is None


OTHER = {"Origin": "https://other.example"}


def ask_before(http: TestClient, path: str, method: str) -> int:
    """The status of what a browser asks before it lets a page of another site send a request."""
    wanted = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization"}
    return http.options(path, headers=OTHER | wanted).status_code


@ON_ONE_ENGINE
def test_pages_of_other_sites_read_and_do_nothing_else(http: TestClient, project: str) -> None:
    for path in ("/api/v1/projects", "/api/v1/projects/none", "/openapi.json", "/projects/tiny.json"):
        headers = http.get(path, headers=OTHER | {"Cookie": "session=x"}).headers
        assert headers["access-control-allow-origin"] == "*" and "access-control-allow-credentials" not in headers
    assert "ETag" in http.get("/api/v1/projects", headers=OTHER).headers["access-control-expose-headers"]
    assert ask_before(http, "/api/v1/projects", "GET") == 200
    assert ask_before(http, "/api/v1/leases", "POST") == ask_before(http, "/api/v1/audit", "DELETE") == 400
    for path in ("/", "/projects/tiny", "/sign-in", "/git/tiny.bundle"):
        assert "access-control-allow-origin" not in http.get(path, headers=OTHER).headers, path


@pytest.mark.parametrize("origins", [None, "https://other.example, https://third.example", ""])
def test_a_closed_swarm_is_read_from_the_sites_that_it_names(
    tmp_path: Path, sqlite_folder: SqliteFolder, origins: str | None
) -> None:
    url = sqlite_folder.create_migrated(tmp_path)
    settings = CoordinatorSettings(database_url=url, public_reading=False, cors_origins=origins)
    with TestClient(create_app(settings)) as http:
        answer = http.get("/api/v1/projects", headers=OTHER)
        allowed = answer.headers.get("access-control-allow-origin")
        assert answer.status_code == 401 and allowed == (OTHER["Origin"] if origins else None)
        assert (ask_before(http, "/api/v1/projects", "GET") == 200) is bool(origins)
        stranger = http.get("/api/v1/projects", headers={"Origin": "https://fourth.example"})
        assert "access-control-allow-origin" not in stranger.headers


@ON_ONE_ENGINE
def test_an_address_tells_its_methods(http: TestClient, project: str) -> None:
    for path, methods in (
        ("/api/v1/projects/tiny/branches", "GET, HEAD, OPTIONS, POST"), ("/api/v1/experiments", "GET, HEAD, OPTIONS"),
        ("/api/v1/findings/tried", "GET, HEAD, OPTIONS, POST"), ("/projects/tiny", "GET, HEAD, OPTIONS"),
    ):  # fmt: skip
        answer = http.options(path)
        assert (answer.status_code, answer.headers["allow"], answer.content) == (204, methods, b""), path
    assert http.options("/nothing").status_code == 404
    refused = http.delete("/api/v1/projects/tiny/branches")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
