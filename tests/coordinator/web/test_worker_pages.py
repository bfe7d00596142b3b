"""Pages of workers: the list with its counts, filters and pages, one worker, and what staff does to it."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from coordinator.db.database import Database
from coordinator.models import Worker
from coordinator.projects.service import create_project
from coordinator.web.fleet_pictures import WIDTH, draw_offsets, draw_timeline
from coordinator.workers.queries import OffsetPoint, PastLease
from shared.experiments import JobKind
from shared.leases import LeaseState
from shared.protocol import VERSION_HEADER, now
from shared.runs import RunOutcome
from shared.workers import Role
from tests.support.accounts import Browsing, browse_as
from tests.support.databases import ON_ONE_ENGINE
from tests.support.seeds import write_seed
from tests.support.swarm_data import History, end_epochs
from tests.support.volunteers import MiniWorker


@pytest.fixture
def history(database: Database, tmp_path: Path) -> int:
    """A project whose workers measured the root, two of them in the second epoch; returns the first worker's number."""
    with database.write() as session:
        project, _ = create_project(session, write_seed(tmp_path / "seed"))
        history = History(session, project)
        ada, bob = history.add_worker("gpu <0>", "ada", is_anchor=True), history.add_worker("box", "bob")
        for metric in (3.25, 3.26):
            history.measure(ada, project.root_sha, metric)
            history.measure(bob, project.root_sha, metric + 0.01)
        history.measure(ada, project.root_sha, None, outcome=RunOutcome.CRASHED, log_tail="out of <memory>")
        history.add_running_lease(ada, project.root_sha, "Warm up")
    end_epochs(database, always=True)
    return ada.id


def add_workers(database: Database, count: int, **columns: Any) -> None:
    with database.write() as session:
        first = session.scalars(select(Worker).order_by(Worker.id)).first()
        assert first is not None
        for number in range(count):
            values: dict[str, Any] = {
                "volunteer_id": first.volunteer_id, "name": f"n{number:03}", "agent": "search", "state": "paused",
                "hardware": first.hardware, "hardware_class": "cpu · 4 cores · x", "version": "0.9",
                "created_at": now(), "state_at": now(), "last_seen_at": now() - timedelta(minutes=number),
            }  # fmt: skip
            session.add(Worker(**(values | columns)))


@ON_ONE_ENGINE
def test_a_workers_name_leads_to_its_page_whatever_is_in_it(history: int, database: Database, http: TestClient) -> None:
    name = "lab/gpu 0?#é"
    with database.write() as session:
        session.get_one(Worker, history).name = name
    answer = http.get(f"/volunteers/ada/{quote(name)}", follow_redirects=False)
    assert (answer.status_code, answer.headers.get("location")) == (303, f"/workers/{history}")


def names_of(page: str) -> list[tuple[str, str]]:
    return re.findall(r"<bdi>(\w+)</bdi></a>/<a href=\"/workers/\d+\"><bdi>([^<]*)</bdi>", page)


def test_the_list_counts_filters_and_pages(http: TestClient, database: Database, history: int) -> None:
    add_workers(database, 60)
    with database.write() as session:
        session.execute(update(Worker).where(Worker.name == "n000").values(last_seen_at=now() - timedelta(days=2)))
    page = http.get("/workers").text
    assert '<span class="number">61</span> workers reported' in page, "the one of two days ago is not counted"
    assert len(names_of(page)) == 50 and f'<a href="/workers/{history}"><bdi>gpu &lt;0&gt;</bdi></a>' in page
    following = re.search(r'rel="next" href="([^"]+)"', page)
    assert following
    second = http.get(following[1].replace("&amp;", "&")).text
    both = names_of(page) + names_of(second)
    assert len(both) == 62 and len(set(both)) == 62 and both[-1] == ("ada", "n000")
    assert len(names_of(http.get("/workers?state=working").text)) == 2
    assert names_of(http.get("/workers?volunteer=bob").text) == [("bob", "box")]
    assert len(names_of(http.get("/workers?mark=anchor").text)) == 1
    assert "No worker fits" in http.get("/workers?version=1.0").text
    newest = http.get("/workers?order=newest&version=0.9").text
    assert names_of(newest)[0] == ("ada", "n059")
    following = re.search(r'rel="next" href="([^"]+)"', newest)
    assert following and len(names_of(http.get(following[1].replace("&amp;", "&")).text)) == 10
    assert http.get("/workers?cursor=nonsense").status_code == http.get("/workers?state=asleep").status_code == 422
    of_project = http.get("/projects/tiny/workers").text
    assert sorted(pair[1] for pair in names_of(of_project)) == ["box", "gpu &lt;0&gt;"] and "had a job" in of_project
    assert '<a href="/projects/tiny/workers" aria-current="page">Workers</a>' in of_project
    assert http.get("/projects/none/workers").status_code == 404


def test_a_worker_shows_leases_offset_and_failures(http: TestClient, history: int) -> None:
    page = http.get(f"/workers/{history}").text
    assert "<bdi>ada</bdi></a>/<bdi>gpu &lt;0&gt;</bdi>" in page and "anchor</span>" in page
    assert page.count('<rect class="done"') == 3 and page.count('<rect class="live"') == 1
    assert "out of &lt;memory&gt;" in page and "crashed" in page
    assert "epoch 1, mean and two sd" in page and "its measurements are off by" in page
    assert "Put in quarantine" not in page
    assert http.get("/workers/999").status_code == 404


def test_staff_acts_on_a_worker(app: FastAPI, database: Database, history: int) -> None:
    moderator, boss = browse_as(app, "moderator", Role.MODERATOR), browse_as(app, "boss", Role.MAINTAINER)
    address = f"/workers/{history}"

    def state() -> tuple[str | None, str | None, bool]:
        with database.read() as session:
            row = session.get_one(Worker, history)
            return row.pause, row.quarantine, row.is_anchor

    def post(person: Browsing, change: str) -> str:
        answer = person.post(f"{address}/{change}", reason="it is <hot>")
        return answer.text if answer.status_code >= 400 else person.get(address).text

    assert "Make it" not in moderator.get(address).text, "only maintainers name anchors"
    assert "Done: pause." in post(moderator, "pause") and state() == ("it is <hot>", None, True)
    assert "it is &lt;hot&gt;</pre>" in post(moderator, "pause")
    assert "it is &lt;hot&gt;</pre>" in post(moderator, "no-anchor") and state()[2]
    page = post(moderator, "quarantine")
    assert "it is &lt;hot&gt;" in page and "End the quarantine" in page and state()[1] == "it is <hot>"
    post(moderator, "release"), post(moderator, "resume"), post(boss, "no-anchor")
    assert state() == (None, None, False)
    assert moderator.post(f"{address}/pause").status_code == 422, "without a reason nothing happens"


def test_a_paused_worker_gets_no_job_and_hears_why(app: FastAPI, database: Database, worker: MiniWorker) -> None:
    worker.measure_root()
    with database.read() as session:
        worker_id = session.scalars(select(Worker.id)).one()
    boss = browse_as(app, "boss", Role.MAINTAINER)
    boss.post(f"/workers/{worker_id}/pause", reason="too hot")
    answer = worker.claim()
    assert answer.lease is None and answer.reason == "A moderator paused this worker: too hot"
    boss.post(f"/workers/{worker_id}/resume", reason="cool again")
    assert worker.claim().lease is not None


def make_lease(**changes: Any) -> PastLease:
    moment = now() - timedelta(hours=1)
    values: dict[str, Any] = {
        "project": "p", "kind": JobKind.IMPROVE, "state": LeaseState.DONE, "phase": "scoring", "issued_at": moment,
        "heartbeat_at": moment, "expires_at": moment, "ended_at": moment + timedelta(minutes=5), "end_reason": "",
    }  # fmt: skip
    return PastLease(**(values | changes))


def test_a_timeline_puts_overlapping_leases_into_lanes_and_ends_at_its_edge() -> None:
    start = now() - timedelta(hours=1)
    leases = [
        make_lease(issued_at=start, ended_at=start + timedelta(minutes=30)),
        make_lease(issued_at=start + timedelta(minutes=10), state=LeaseState.RUNNING, ended_at=None,
                   expires_at=now() + timedelta(minutes=1)),
        make_lease(issued_at=start + timedelta(minutes=30), state=LeaseState.RUNNING, ended_at=None,
                   heartbeat_at=start + timedelta(minutes=40)),
    ]  # fmt: skip
    drawn = draw_timeline(leases, now())
    assert drawn and [(bar.kind, bar.y) for bar in drawn.bars] == [("done", 0), ("live", 16), ("expired", 0)]
    assert all(bar.x + bar.width <= WIDTH + 0.1 for bar in drawn.bars)
    assert draw_timeline([], now()) is None


def test_an_offset_of_nothing_stands_on_the_line() -> None:
    picture = draw_offsets([OffsetPoint("p", "c", 1, 0.0, 0.0, now()), OffsetPoint("p", "c", 2, 1.0, 0.5, now())])[0]
    assert picture.bars[0].middle == picture.zero and picture.bars[1].top < picture.bars[1].middle < picture.zero
    assert draw_offsets([OffsetPoint("p", "c", 1, 0.0, 0.0, now())])[0].bars[0].top == picture.zero


def test_the_version_is_the_one_that_the_worker_said(http: TestClient, worker: MiniWorker) -> None:
    http.headers[VERSION_HEADER] = "1.2.3"
    worker.claim()
    del http.headers[VERSION_HEADER]
    assert http.get("/api/v1/workers").json()["items"][0]["version"] == "1.2.3"
    worker.claim()
    page = http.get("/workers?version=1.2.3").text
    assert len(names_of(page)) == 1, "who does not say it keeps the one known"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_wrong_choice_is_named_once(http: TestClient) -> None:
    """A filter may be one of several kinds of value, of which a person knows nothing."""
    answer = http.get("/workers?state=awake&mark=none")
    assert answer.status_code == 422
    assert [mistake["where"] for mistake in answer.json()["errors"]] == ["query.state", "query.mark"]
    page = http.get("/workers?state=awake", headers={"Accept": "text/html"}).text
    assert "query.state: must be &#39;working&#39;" in page and "^$" not in page
