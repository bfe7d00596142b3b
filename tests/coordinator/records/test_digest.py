"""Digests of weeks: made from the evidence, stored, and shown in four forms."""

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

from fastapi.testclient import TestClient
from sqlalchemy import select, update

from coordinator.db.database import Database
from coordinator.models import (
    CommitPosterior,
    Experiment,
    Finding,
    LeaderChange,
    Project,
    Run,
    StoredDigest,
    Volunteer,
    table_of,
)
from coordinator.records import digest, progress
from shared.experiments import Standing, Verdict
from shared.protocol import API_PREFIX, now, use_clock
from tests.support.messages import make_proposal
from tests.support.swarm_data import History, crash

ATOM = "{http://www.w3.org/2005/Atom}"


def fill(database: Database, ago: timedelta) -> str:
    """A project's runs, all moved to a time `ago`; returns their week's name."""
    moment = now() - ago
    with database.write() as session:
        project = session.scalars(select(Project)).one()
        history = History(session, project)
        ada, bob = history.add_worker(), history.add_worker("w2", "bob", is_anchor=True)
        history.measure(ada, project.root_sha, 3.3)
        good = history.add_experiment(ada, project.root_sha, 3.2, make_proposal("raise <b>it</b> [x](y) \ufffe"))
        history.measure(bob, good.commit_sha, 3.2)
        history.add_experiment(bob, project.root_sha, 3.4, make_proposal("lower it"))
        history.add_experiment(bob, project.root_sha, None, make_proposal("break it"), **crash())
        session.flush()
        progress.advance(session, progress.scope_of(project, ada.hardware_class))
        for model, column in (
            (Run, "created_at"), (Experiment, "created_at"), (Finding, "created_at"), (LeaderChange, "changed_at"),
            (Project, "created_at"),
        ):  # fmt: skip
            session.execute(update(table_of(model)).values({column: moment}))
    return digest.name_week(moment)


def test_a_past_week_is_made_once_and_stays(database: Database, http: TestClient, project: str) -> None:
    week = fill(database, timedelta(days=15))
    digest.make_due(database)
    with database.read() as session:
        rows = session.scalars(select(StoredDigest).order_by(StoredDigest.week)).all()
    are_final = [row.is_final for row in rows]
    assert are_final in ([True] * 2 + [False], [True] * 3 + [False]), "with quiet weeks, by the day of this week"
    listed = http.get(f"{API_PREFIX}/projects/{project}/digests").json()["items"]
    assert [one["week"] for one in listed] == [week], "but only weeks with runs are listed"
    first = http.get(f"{API_PREFIX}/projects/{project}/digests/{week}")
    told = first.json()
    assert (told["experiments"], told["failed"], told["runs"]) == (3, 1, 5)
    assert {one["name"]: one["experiments"] for one in told["people"]} == {"ada": 1, "bob": 2}
    assert told["records"], "who came to lead"
    assert all(one["metric_sd"] > 0 for one in told["records"])
    with database.write() as session:
        history = History(session, session.scalars(select(Project)).one())
        history.add_experiment(history.add_worker(), history.project.root_sha, 3.0, make_proposal("later"))
    digest.make_due(database)
    same = {"If-None-Match": first.headers["ETag"]}
    assert http.get(f"{API_PREFIX}/projects/{project}/digests/{week}", headers=same).status_code == 304


def test_the_current_week_is_made_again_when_it_is_old(database: Database, http: TestClient, project: str) -> None:
    week = fill(database, timedelta())
    digest.make_due(database)
    path = f"{API_PREFIX}/projects/{project}/digests/{week}"
    made = http.get(path).json()
    assert not made["is_final"]
    digest.make_due(database)
    assert http.get(path).json()["made_at"] == made["made_at"]
    with database.write() as session:
        session.execute(update(table_of(StoredDigest)).values(made_at=now() - digest.MADE_AGAIN_AFTER))
    digest.make_due(database)
    assert http.get(path).json()["made_at"] > made["made_at"]
    assert f"{ATOM}entry" not in [one.tag for one in ElementTree.fromstring(_feed(http, project))], "not over yet"


def test_what_was_made_while_the_clock_was_ahead_is_made_again(database: Database, project: str) -> None:
    """A week would otherwise stay as it was at its middle, and weeks to come without a run."""
    week = fill(database, timedelta())
    with use_clock(lambda: datetime.now(UTC) + timedelta(days=30)):
        digest.make_due(database)
    digest.make_due(database)
    with database.read() as session:
        stored = {row.week: row for row in session.scalars(select(StoredDigest))}
    assert len(stored) > 4 and not stored[week].is_final and stored[week].made_at <= now()


def _feed(http: TestClient, project: str) -> str:
    return http.get(f"/projects/{project}/digests.atom").text


def test_page_markdown_and_feed_tell_the_same(database: Database, http: TestClient, project: str) -> None:
    week = fill(database, timedelta(days=15))
    digest.make_due(database)
    page = http.get(f"/projects/{project}/digests/{week}").text
    text = http.get(f"/projects/{project}/digests/{week}.md")
    assert text.headers["content-type"].startswith("text/markdown")
    assert text.headers["ETag"]
    assert "3 experiments and 5 runs" in text.text
    assert "±" in page and "±" in text.text
    assert "<b>it" not in page and "raise \\<b\\>it\\</b\\> \\[x\\](y)" in text.text
    assert week in http.get(f"/projects/{project}/digests").text
    feed = ElementTree.fromstring(_feed(http, project))
    assert feed.tag == f"{ATOM}feed"
    for element in (feed, *feed.iter(f"{ATOM}entry")):
        assert element.findtext(f"{ATOM}id", "").startswith("urn:uuid:")
        assert element.findtext(f"{ATOM}title")
        assert datetime.fromisoformat(element.findtext(f"{ATOM}updated", "")).tzinfo is not None
        assert all(link.get("href", "").startswith("http") for link in element.findall(f"{ATOM}link"))
    assert len(feed.findall(f"{ATOM}entry")) == 1
    assert _feed(http, project) == _feed(http, project)


def test_a_prediction_is_refuted_where_others_measured_it_too(
    database: Database, http: TestClient, project: str
) -> None:
    week = fill(database, timedelta(days=15))
    with database.write() as session:
        history = History(session, session.scalars(select(Project)).one())
        ada, when = history.add_worker(), now() - timedelta(days=15)
        for title, standing in (("seen once", Standing.PROVISIONAL), ("seen by others", Standing.CORROBORATED)):
            made = history.add_experiment(ada, history.project.root_sha, 3.5, make_proposal(title))
            session.flush()
            session.execute(update(table_of(Experiment)).where(Experiment.id == made.id).values(created_at=when))
            is_it = CommitPosterior.commit_sha == made.commit_sha
            found = {"verdict": Verdict.WORSE, "standing": standing}
            session.execute(update(table_of(CommitPosterior)).where(is_it).values(found))
    digest.make_due(database)
    told = http.get(f"{API_PREFIX}/projects/{project}/digests/{week}").json()
    assert [one["title"] for one in told["refuted"]] == ["seen by others"] and told["refuted_in_all"] == 1
    older = told | {
        "refuted": [told["refuted"][0] | {"title": "seen once", "standing": "provisional"}, *told["refuted"]]
    }
    with database.write() as session:
        session.execute(update(table_of(StoredDigest)).values(content=older | {"refuted_in_all": 2}))
    shown = http.get(f"{API_PREFIX}/projects/{project}/digests/{week}").json()
    assert shown == told | {"withheld": 1}, "one that was made before"
    for path in (f"digests/{week}", f"digests/{week}.md", "digests.atom"):
        text = http.get(f"/projects/{project}/{path}").text
        assert "seen by others" in text and "seen once" not in text, path
        assert "Refuted predictions" in text and "provisional" in text, path


def test_people_in_quarantine_are_left_out_while_they_are(database: Database, http: TestClient, project: str) -> None:
    week = fill(database, timedelta(days=15))
    digest.make_due(database)
    path = f"{API_PREFIX}/projects/{project}/digests/{week}"
    before = http.get(path).json()
    for reason in ("a liar", None):
        with database.write() as session:
            session.scalars(select(Volunteer).where(Volunteer.name == "ada")).one().quarantine = reason
        told = http.get(path).json()
        assert ("ada" in str(told)) == (reason is None)
        assert (told["withheld"] > 0) == (reason is not None)
    assert told == before


def test_weeks_are_those_of_iso_8601(http: TestClient, project: str) -> None:
    assert digest.name_week(datetime(2027, 1, 3, 23, 59, tzinfo=UTC)) == "2026-W53"
    assert digest.start_of("2026-W53") == datetime(2026, 12, 28, tzinfo=UTC)
    for week, status in (("2025-W53", 404), ("2026-W60", 422), ("2026-W01", 404)):
        assert http.get(f"{API_PREFIX}/projects/{project}/digests/{week}").status_code == status
