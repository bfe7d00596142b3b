"""Actions of moderators and maintainers on an account in a browser: each is logged, and has an inverse."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.accounts.service import add_token, find_or_add_volunteer
from coordinator.db.database import Database
from coordinator.models import Volunteer
from shared.workers import Role, TokenScope
from tests.support.accounts import Browsing, browse_as
from tests.support.databases import SqliteFolder

MALLORY = "/admin/accounts/mallory"


@pytest.fixture
def database_url(sqlite_folder: SqliteFolder, tmp_path: Path) -> str:
    """SQLite alone: what is asked here does not depend on the engine."""
    return sqlite_folder.create_migrated(tmp_path)


@pytest.fixture
def boss(app: FastAPI, http: TestClient, database: Database) -> Browsing:
    """A maintainer's browser, and mallory's account."""
    with database.write() as session:
        mallory = find_or_add_volunteer(session, "mallory")
        mallory.is_pending, mallory.is_approved = True, False
        add_token(session, mallory, "box", TokenScope.WORK, None)
    return browse_as(app, "boss", Role.MAINTAINER)


def state_of(database: Database) -> tuple[str, bool, str | None, str | None]:
    with database.read() as session:
        row = session.query(Volunteer).filter_by(name="mallory").one()
        return row.role, row.is_pending, row.suspension, row.quarantine


def test_each_action_says_why_and_is_taken_back_by_another(boss: Browsing, database: Database) -> None:
    expected = {
        "approval": ("volunteer", False, None, None),
        "suspension": ("volunteer", False, "approval was early", None),
        "reinstatement": ("volunteer", False, None, None),
        "quarantine": ("volunteer", False, None, "approval was early"),
        "release": ("volunteer", False, None, None),
    }
    for action, state in expected.items():
        answer = boss.post(f"{MALLORY}/{action}", reason="approval was early")
        assert answer.headers["location"] == MALLORY and state_of(database) == state, action
    boss.post(f"{MALLORY}/role", reason="helps a lot", role="moderator")
    assert state_of(database)[0] == "moderator"
    assert f'form="revocation" formaction="{MALLORY}/tokens/1/revocation"' in boss.get(MALLORY).text
    boss.post(f"{MALLORY}/tokens/1/revocation", reason="it leaked")
    page = boss.get(MALLORY).text
    assert page.count('?by=boss"><bdi>boss</bdi></a>') == 6 and "it has none" in page.lower()
    assert boss.post(f"{MALLORY}/suspension").status_code == 422, "without a reason nothing happens"
    again = boss.post(f"{MALLORY}/release", reason="once more")
    assert again.status_code == 409 and "is like that already" in again.text


def test_a_link_resets_a_password(app: FastAPI, boss: Browsing) -> None:
    boss.post(f"{MALLORY}/approval", reason="known from the course")
    page = boss.post(f"{MALLORY}/sign-in-link", reason="forgot it").text
    link = re.search(r"http://testserver(/sign-in\?link=(swl_[\w-]+))", page)
    assert link and link[2] not in boss.get(MALLORY).text
    mallory = Browsing(app)
    mallory.get(link[1])
    mallory.post("/sign-in", secret=link[2])
    mallory.post("/me/password", password="correct horse battery")
    assert "mallory has a new password" in mallory.get("/me").text


def test_a_moderator_acts_on_volunteers_and_makes_no_links(app: FastAPI, boss: Browsing, database: Database) -> None:
    moderator = browse_as(app, "moderator", Role.MODERATOR)
    page = moderator.get(MALLORY).text
    assert "Suspend" in page and "sign-in-link" not in page and "Tokens" not in page
    assert moderator.post(f"{MALLORY}/suspension", reason="spam").status_code == 303
    refused = moderator.post("/admin/accounts/boss/suspension", reason="a coup")
    assert refused.status_code == 403 and "Only maintainers act" in moderator.get("/admin/accounts/boss").text


def test_accounts_are_listed_and_found_by_the_beginning_of_their_names(app: FastAPI, boss: Browsing) -> None:
    for number in range(60):
        browse_as(app, f"a{number}")
    first = boss.get("/admin/accounts").text
    assert first.count('<th scope="row">') == 50 and "a59" in first and "mallory" not in first
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following and "mallory" in boss.get("/admin/accounts" + following[1]).text
    found = boss.get("/admin/accounts?name=mal").text
    assert "waits for approval" in found and found.count('<th scope="row">') == 1
    assert "There is none" in boss.get("/admin/accounts?name=zz").text
    assert boss.get("/admin/accounts?name=%25").status_code == 422
