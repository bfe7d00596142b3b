"""Pages of people: the leaderboard and who stays away from it, a volunteer's page, and the retraction of all papers."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from coordinator.accounts.service import find_or_add_volunteer
from coordinator.db.database import Database
from coordinator.findings.service import list_published
from coordinator.models import Volunteer
from coordinator.projects.service import create_project
from coordinator.records import contributions, progress
from shared.workers import Role
from tests.support.accounts import browse_as, make_person
from tests.support.messages import make_proposal
from tests.support.seeds import write_seed
from tests.support.swarm_data import History


@pytest.fixture
def history(database: Database, tmp_path: Path) -> None:
    """Experiments of ada's, more of them than a page of papers holds, and replications of bob's."""
    with database.write() as session:
        project, _ = create_project(session, write_seed(tmp_path / "seed"))
        history = History(session, project)
        ada, bob = history.add_worker("w1", "ada"), history.add_worker("w2", "bob")
        shas = [
            history.add_experiment(ada, project.root_sha, 3.25, make_proposal(f"Paper <{number}>")).commit_sha
            for number in range(25)
        ]
        for sha in shas[:3]:
            history.measure(bob, sha, 3.25)
        find_or_add_volunteer(session, "waiting").is_pending = True
    progress.follow_runs(database)


@pytest.fixture(autouse=True)
def _no_old_leaderboards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contributions, "KEPT_SECONDS", 0.0)


def names_of(page: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="/volunteers/[^"]+"><bdi>([^<]+)', page)


@pytest.mark.usefixtures("history")
def test_the_leaderboard_leaves_out_who_wants_that_and_who_is_stopped(
    app: FastAPI, http: TestClient, database: Database
) -> None:
    assert names_of(http.get("/leaderboard?order=replications").text)[0] == "bob"
    assert names_of(http.get("/leaderboard?order=hours&period=all").text) == ["ada", "bob"]
    assert "Nobody yet" in http.get("/leaderboard").text, "nothing is verified"
    assert http.get("/leaderboard?project=none").status_code == 404
    assert http.get("/leaderboard?order=luck").status_code == 422
    ada = browse_as(app, "ada")
    ada.post("/me/profile", listed="false")
    assert names_of(http.get("/leaderboard?order=hours").text) == ["bob"] and "Show my name" in ada.get("/me").text
    ada.post("/me/profile", listed="true")
    assert names_of(http.get("/leaderboard?order=hours").text) == ["ada", "bob"]
    for _ in range(2):  # the second time it is like that already
        ada.post("/me/profile", cited_as=" Ada <Lovelace> ")
    assert 'value="Ada &lt;Lovelace&gt;"' in ada.get("/me").text
    ada.post("/me/profile", listed="true")
    assert 'value="Ada &lt;Lovelace&gt;"' in ada.get("/me").text, "the other form leaves it"
    ada.post("/me/profile", cited_as="")
    assert "Lovelace" not in ada.get("/me").text
    boss, mod = (make_person(database, http, role, Role(role)) for role in ("maintainer", "moderator"))
    entries = boss.get("/audit?key=ada").json()["items"]
    changes: list[dict[str, object]] = [{"cited_as": None}, {"cited_as": "Ada <Lovelace>"}]
    changes += [{"is_unlisted": False}, {"is_unlisted": True}]
    assert [one["after"] for one in entries] == changes
    wish = {"is_listed": False, "reason": "It was asked for by mail."}
    assert [mod.post(f"/accounts/{name}/profile", wish).status_code for name in ("moderator", "ada")] == [200, 403]
    done = boss.post("/accounts/ada/profile", wish).json()
    assert names_of(http.get("/leaderboard?order=hours").text) == ["bob"]
    boss.post(f"/audit/{done['id']}/undo", {"reason": "It was another Ada."})
    with database.write() as session:
        session.scalars(select(Volunteer).where(Volunteer.name == "bob")).one().suspension = "spam"
    assert names_of(http.get("/leaderboard?order=hours&project=tiny").text) == ["ada"]


@pytest.mark.usefixtures("history")
def test_a_volunteers_page_shows_contribution_and_papers(app: FastAPI, http: TestClient) -> None:
    page = http.get("/volunteers/ada").text
    assert '<dd class="number">25</dd><dd class="note">25 experiments, 0 replications' in page
    assert page.count('class="claim"') == 10 and "Retract all" not in page and "<bdi>ada/w1</bdi>" in page
    older = re.search(r'rel="next" href="([^"]+)"', page)
    assert older and http.get(older[1]).text.count('class="claim"') == 10
    assert '<dd class="note">0 experiments, 3 replications' in http.get("/volunteers/bob").text
    assert http.get("/volunteers/nobody").status_code == http.get("/volunteers/waiting").status_code == 404
    assert browse_as(app, "mod", Role.MODERATOR).get("/volunteers/waiting").status_code == 200


@pytest.mark.usefixtures("history")
def test_staff_retracts_all_papers_and_takes_it_back(app: FastAPI, database: Database) -> None:
    moderator = browse_as(app, "mod", Role.MODERATOR)

    def count() -> int:
        with database.read() as session:
            ada = session.scalars(select(Volunteer.id).where(Volunteer.name == "ada")).one()
            return len(list_published(session, ada))

    moderator.post("/volunteers/ada/papers/retraction", reason="made up")
    page = moderator.get("/volunteers/ada").text
    entry = re.search(r"25 papers are retracted. In the audit log: (\d+)", page)
    assert entry and count() == 0 and page.count(">retracted</span>") == 10
    assert "once more</pre>" in moderator.post("/volunteers/ada/papers/retraction", reason="once more").text
    moderator.post(f"/audit/{entry[1]}/undo", reason="she was right")
    assert count() == 25
