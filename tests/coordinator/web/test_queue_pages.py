"""The desk, the audit log and reports as pages: forms do what the API does, and addresses hold what is shown."""

import csv
import html
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.events.audit import Actor
from coordinator.models import Project
from coordinator.moderation import service
from shared.workers import Role
from tests.support.accounts import Browsing, browse_as
from tests.support.databases import SqliteFolder
from tests.support.messages import HARDWARE, make_proposal
from tests.support.swarm_data import History

CLASS = HARDWARE.hardware_class


@pytest.fixture
def database_url(sqlite_folder: SqliteFolder, tmp_path: Path) -> str:
    """SQLite alone: the queue's own tests run on both engines."""
    return sqlite_folder.create_migrated(tmp_path)


@pytest.fixture
def held(database: Database, project: str) -> str:
    """The name of a held result of mallory's in the queue; a newcomer waits, too."""
    with database.write() as session:
        history = History(session, session.query(Project).filter_by(name=project).one())
        root = history.project.root_sha
        mallory = history.add_worker("m1", "mallory")
        for worker in (history.add_worker("w1", "ada"), mallory):
            history.measure(worker, root, 3.3)
        sha = history.add_experiment(mallory, root, 0.3, make_proposal("<b>Too good</b>")).commit_sha
    return f"held:tiny/{sha}/{CLASS}"


@pytest.fixture
def boss(app: FastAPI, http: TestClient) -> Browsing:
    return browse_as(app, "boss", Role.MAINTAINER)


def test_the_desk_shows_what_waits_and_the_evidence_beside_it(app: FastAPI, held: str, boss: Browsing) -> None:
    browse_as(app, "newcomer", is_pending=True)
    page = boss.get("/admin/queue")
    assert page.status_code == 200 and "2 waiting" in page.text
    assert "&lt;b&gt;Too good&lt;/b&gt;" in page.text and "<b>Too good" not in page.text
    assert '>Desk <span class="count">2' in page.text, "the navigation counts what waits"
    chosen = boss.get(f"/admin/queue?kind=held&item={held}").text
    assert (
        "mallory/m1" in chosen
        and ">0.300000</td>" in chosen
        and "Send to two anchors" in chosen
        and "newcomer" not in chosen
    )
    assert "does not wait any more" in boss.get("/admin/queue?item=held:gone").text
    assert "Nothing waits of this kind" in boss.get("/admin/queue?kind=task").text
    assert boss.get("/admin/queue?assigned=me").text.count("data-row") == 0


@pytest.mark.usefixtures("held")
def test_strangers_and_volunteers_see_neither_desk_nor_log(app: FastAPI, http: TestClient) -> None:
    ada = browse_as(app, "ada")
    for path in ("/admin/queue", "/audit", "/audit.csv"):
        assert ada.get(path).status_code == 403, path
        assert http.get(path, headers={"Accept": "text/html"}, follow_redirects=False).status_code in (303, 401), path
    assert "Desk" not in ada.get("/").text


def test_a_decision_is_made_read_in_the_log_and_undone(held: str, boss: Browsing) -> None:
    answer = boss.post(
        "/admin/queue", items=held, action="reject", reason="nobody repeats it", next="/admin/queue?kind=held"
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/queue?kind=held")
    page = boss.get("/admin/queue?kind=held").text
    assert "Done: reject 1 thing" in page and "Nothing waits of this kind" in page and "nobody repeats it" not in page
    log = boss.get("/audit?action=decide-held").text
    assert (
        "nobody repeats it" in log
        and "boss" in log
        and "none → <bdi>reject</bdi>" in log.replace('<span class="muted">none</span>', "none")
    )
    assert boss.post("/audit/1/undo", reason="it was real", next="/audit").status_code == 303
    after = boss.get("/audit").text
    assert "Entry 1 is undone, by entry 2" in after and "undone by 2" in after
    assert held in boss.get("/admin/queue").text.replace("&#34;", '"')


def test_many_are_acted_upon_at_once_and_a_failure_leaves_everything(
    app: FastAPI, held: str, boss: Browsing, database: Database
) -> None:
    for name in ("a", "b", "c"):
        browse_as(app, name, is_pending=True)
    names = [f"account:{name}" for name in ("a", "b", "c")]
    refused = boss.post("/admin/queue", items=[*names, held], action="approve", reason="the course")
    assert refused.status_code >= 400 and "<pre" in refused.text and "the course</pre>" in refused.text
    assert "4 waiting" in boss.get("/admin/queue").text
    boss.post("/admin/queue", items=names, action="approve", reason="the course")
    page = boss.get("/admin/queue").text
    assert "Done: approve 3 things" in page and "1 waiting" in page
    late = boss.post("/admin/queue", items=names, action="approve", reason="in another tab")
    assert late.status_code == 404 and "This does not wait any more</h1>" in late.text
    assert '<a href="/audit">audit log</a>' in late.text and "in another tab</pre>" in late.text
    refused = boss.post("/admin/queue", action="approve", reason="the course")
    assert "Choose what to act upon first" in refused.text and "the course</pre>" in refused.text
    assert boss.post("/admin/queue", items=names, action="approve", reason="").status_code == 422


@pytest.mark.usefixtures("held")
def test_the_log_is_filtered_paged_and_exported(boss: Browsing, database: Database) -> None:
    with database.write() as session:
        for number in range(60):
            is_on = number % 2 == 0
            service.set_suspension(session, Actor("=cmd()|x"), "mallory", f"reason {number}", is_on=is_on)
    page = boss.get("/audit?action=suspend").text
    assert "reason 58" in page and "reason 57" not in page and "Older" not in page
    first = boss.get("/audit").text
    assert "reason 59" in first and "reason 9<" not in first
    found = re.search(r'rel="next" href="([^"]+)"', first)
    assert found is not None
    older = boss.get(html.unescape(found[1])).text
    assert "reason 9<" in older and "reason 59" not in older and "Newest" in older
    lines = list(csv.reader(boss.get("/audit.csv?key=mallory").text.splitlines()))
    assert len(lines) == 61 and lines[0][:3] == ["id", "at", "by"] and lines[1][2] == "'=cmd()|x"
    assert boss.get("/audit?action=nonsense&by=&subject=&key=").status_code == 200, "an unknown filter is none"


@pytest.mark.usefixtures("held")
def test_a_reader_reports_a_finding(app: FastAPI, boss: Browsing) -> None:
    reader = Browsing(app)
    assert 'href="/findings/1/report"' in reader.get("/findings/1").text
    assert "What is wrong?" in reader.get("/findings/1/report").text
    assert reader.post("/findings/1/report", text="An <i>advertisement</i>").status_code == 303
    assert "The moderators will look at it" in reader.get("/findings/1").text
    stopped = browse_as(app, "eve", quarantine="lies")
    assert stopped.post("/findings/1/report", text="Mine is better").status_code == 403
    shown = boss.get("/admin/queue?item=report:1").text
    assert "An &lt;i&gt;advertisement&lt;/i&gt;" in shown and "1 report of finding 1" in shown


@pytest.mark.usefixtures("held")
def test_branches_are_named_approved_and_changed_on_their_page(app: FastAPI, boss: Browsing) -> None:
    ada, path = browse_as(app, "newcomer"), "/projects/tiny/branches"
    assert "Change" not in ada.get(path).text
    ada.post(path, name="warmup", theme="Warm <b>up</b>.")
    assert "It waits for a maintainer&#39;s approval" in ada.get(path).text
    assert ada.post(f"{path}/warmup/approve", reason="I like it").status_code == 403
    assert "Warm &lt;b&gt;up&lt;/b&gt;." in boss.get(path).text
    for change, more in (
        ("approve", {}), ("share", {"share": 30}), ("rename", {"new_name": "early"}),
    ):  # fmt: skip
        boss.post(f"{path}/warmup/{change}", reason="a good idea", **more)
        assert f"Done: {change} warmup" in boss.get(path).text
    boss.post(f"{path}/early/pause", reason="enough of it")
    again = ada.post(path, name="early", theme="Long words\non a direction.")
    assert again.status_code == 409 and "Long words\non a direction." in again.text, "what was typed is kept"
    assert boss.get(f"{path}?branch=early").headers["location"] == f"{path}/early"
    page = boss.get(f"{path}/early").text
    assert "by a maintainer" in page and "≥ 30 %" in page and "It was warmup. a good idea" in page
    refused = boss.post(f"{path}/baseline/delete", reason="away with it")
    assert "The branch is not empty" in refused.text and "away with it</pre>" in refused.text
