"""The queue: what waits is there with what waits for it, is acted upon, and comes back by undo. On both engines."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from click.testing import Result
from fastapi import FastAPI
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from coordinator.background import TaskHealth
from coordinator.cli import app as command_line
from coordinator.db.database import Database
from coordinator.models import Calibration, CommitPosterior, EvidenceEpoch, FindingReport, Project
from coordinator.moderation import queue
from shared.protocol import now
from shared.workers import Role
from tests.support.accounts import Person, code_of, make_person
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import HARDWARE, make_proposal
from tests.support.swarm_data import History, crash, end_epochs

CLASS = HARDWARE.hardware_class
WHY = "looked at it"


class Case:
    """A swarm in which one thing of each kind waits, mostly for what mallory did."""

    def __init__(self, database: Database, http: TestClient) -> None:
        self.database, self.http = database, http
        with database.write() as session:
            history = History(session, session.query(Project).one())
            root = history.project.root_sha
            mallory, ada = history.add_worker("m1", "mallory"), history.add_worker("w1", "ada")
            for worker in (ada, mallory):
                for metric in (3.297, 3.3, 3.303):
                    history.measure(worker, root, metric)
            self.held = history.add_experiment(mallory, root, 0.3, make_proposal("Too good")).commit_sha
            self.disputed = history.add_experiment(mallory, root, 3.29, make_proposal("Disputed")).commit_sha
            for _ in range(2):
                history.add_experiment(ada, self.disputed, 3.28, make_proposal("On it"))
        end_epochs(database, always=True)
        with database.write() as session:
            session.query(CommitPosterior).filter_by(commit_sha=self.disputed).update({"dispute": "contested"})
            session.query(Calibration).filter_by(worker_id=ada.id).update({"failures_in_row": 4})
            session.query(EvidenceEpoch).update({"disputed_noise_sd": 0.02})
        self.boss = make_person(database, http, "boss", Role.MAINTAINER)
        self.pending = make_person(database, http, "newcomer", is_pending=True)
        other = make_person(database, http, "other")
        assert other.post("/projects/tiny/branches", {"name": "theirs", "theme": "Mine."}).status_code == 201
        assert self.report(2).status_code == 204

    def report(self, finding_id: int, person: Person | None = None) -> httpx.Response:
        body = {"text": "It is an advertisement."}
        reader = person or Person(self.http, "", "")
        return reader.post(f"/findings/{finding_id}/reports", body)

    def read(self, path: str = "/queue") -> dict[str, dict[str, Any]]:
        answer = self.boss.get(path)
        assert answer.status_code == 200, answer.text
        return {item["name"]: item for item in answer.json()["items"]}

    def act(self, action: str, *names: str, **more: object) -> httpx.Response:
        body = {"items": names, "action": action, "reason": WHY} | more
        return self.boss.post("/queue/actions", body)

    def name(self, kind: str) -> str:
        return next(name for name in self.read() if name.startswith(f"{kind}:"))

    def undo(self, done: httpx.Response) -> None:
        for entry in done.json()["items"]:
            assert self.boss.post(f"/audit/{entry['id']}/undo", {"reason": "a mistake"}).status_code == 201


@pytest.fixture
def case(database: Database, http: TestClient, project: str) -> Case:
    assert project == "tiny"
    return Case(database, http)


def test_everything_that_waits_is_there_in_the_order_of_what_waits_for_it(case: Case) -> None:
    items = case.read()
    kinds = {item["kind"] for item in items.values()}
    assert kinds == {"held", "contradiction", "noise", "account", "branch", "report", "worker"}
    waiting = [item["waiting"] for item in items.values()]
    assert waiting == sorted(waiting, reverse=True)
    first = next(iter(items.values()))
    assert (first["kind"], first["waiting"], first["author"]) == ("contradiction", 2, "mallory")
    assert items[f"held:tiny/{case.held}/{CLASS}"]["actions"][:3] == ["accept", "check", "reject"]
    assert set(case.read("/queue?kind=branch")) == {"branch:tiny/theirs"}
    counts = case.boss.get("/queue?kind=branch").json()["counts"]
    assert counts["branch"] == counts["report"] == 1 and counts["task"] == 0


@ON_ONE_ENGINE
def test_each_kind_is_settled_and_comes_back_when_that_is_undone(case: Case) -> None:
    for kind, action in (
        ("contradiction", "dismiss"), ("noise", "dismiss"), ("report", "dismiss"), ("worker", "dismiss"),
        ("account", "approve"), ("account", "suspend"), ("report", "retract"),
        ("branch", "quarantine"), ("branch", "approve"), ("branch", "delete"),
        ("held", "accept"), ("held", "check"), ("held", "reject"), ("report", "quarantine"), ("worker", "quarantine"),
    ):  # fmt: skip
        name = case.name(kind)
        done = case.act(action, name)
        assert done.status_code == 200, (kind, action, done.text)
        assert name not in case.read(), (kind, action)
        case.undo(done)
        assert name in case.read(), (kind, action)


def test_of_many_things_all_are_acted_upon_or_none(case: Case) -> None:
    names = [case.name("contradiction"), case.name("noise"), case.name("report")]
    before = case.read()
    gone = case.act("dismiss", *names, "report:99")
    assert code_of(gone) == (404, "item-settled") and "does not wait any more" in gone.json()["detail"]
    unfit = case.act("dismiss", *names, case.name("held"))
    assert code_of(unfit) == (409, "action-unfit")
    assert case.read() == before, "nothing was done"
    done = case.act("dismiss", *names)
    assert len(done.json()["items"]) == 3 and not set(names) & set(case.read())
    assert {entry["reason"] for entry in done.json()["items"]} == {WHY}


@ON_ONE_ENGINE
def test_several_things_of_one_author_lead_to_one_quarantine(case: Case) -> None:
    names = [case.name("held"), case.name("contradiction")]
    done = case.act("quarantine", *names)
    assert [entry["key"] for entry in done.json()["items"]] == ["mallory"]
    assert not set(names) & set(case.read()), "its runs do not count, so nothing is left to decide"


@ON_ONE_ENGINE
def test_what_was_dismissed_waits_again_when_it_gets_worse(case: Case) -> None:
    for kind in ("report", "contradiction", "worker"):
        assert case.act("dismiss", case.name(kind)).status_code == 200
    assert case.report(2).status_code == 204
    with case.database.write() as session:
        session.query(CommitPosterior).filter_by(commit_sha=case.disputed).update({"dispute": "refuted"})
    kinds = {item["kind"] for item in case.read().values()}
    assert {"report", "contradiction"} <= kinds and "worker" not in kinds
    assert "2 reports" in case.read()["report:2"]["detail"]


@ON_ONE_ENGINE
def test_things_are_assigned_to_those_who_look_after_them(case: Case) -> None:
    name = case.name("noise")
    assert case.act("assign", name, assignee="boss").status_code == 200
    assert case.read()[name]["assigned_to"] == "boss"
    assert code_of(case.act("assign", name, assignee="other")) == (403, "not-allowed")
    assert case.act("assign", name).status_code == 200 and case.read()[name]["assigned_to"] is None


def test_reports_are_limited_by_address_and_by_account(case: Case, database: Database) -> None:
    reader = make_person(database, case.http, "reader")
    codes = [case.report(2, reader).status_code for _ in range(12)]
    assert codes == [*[204] * 9, *[429] * 3], "ten from one address in an hour, one of them before"
    for hours in (-2, 2):
        with database.write() as session:
            session.query(FindingReport).update({"created_at": now() + timedelta(hours=hours)})
        assert case.report(2, reader).status_code == 204, "later, or when the clock was ahead, it is possible again"
    assert code_of(case.report(99))[0] == 404
    assert case.boss.post("/findings/2/reports", {"text": "x"}).status_code == 422


@ON_ONE_ENGINE
def test_the_queue_on_the_command_line(case: Case) -> None:
    url = case.database.url.render_as_string(hide_password=False)

    def run(*given: str) -> Result:
        return CliRunner().invoke(command_line, ["queue", *given], env={"SWARM_DATABASE_URL": url})

    assert "report:2  " in run("list").stdout and "report" not in run("list", "--kind", "branch").stdout
    done = run("act", "dismiss", "report:2", case.name("noise"), "--reason", WHY)
    assert done.exit_code == 0 and done.stdout.count(f"because: {WHY}") == 2, done.stderr
    assert "report:2" not in case.read()
    gone = run("act", "dismiss", "report:2", "--reason", WHY)
    assert gone.exit_code == 1 and "does not wait any more" in gone.stderr


@ON_ONE_ENGINE
def test_background_tasks_that_fell_behind_come_first(case: Case) -> None:
    tasks = [
        TaskHealth("epochs", last_error="OSError('disk')", last_error_at=now(), failures=5),
        TaskHealth("vector index", failures=1), TaskHealth("feed", is_alive=False, last_success_at=now()),
    ]  # fmt: skip
    with case.database.read() as session:
        items = queue.list_items(session, tasks)
    assert {items[0].title, items[1].title} == {"epochs", "feed"} and "OSError" in str(items[:2])
    assert sum(item.kind == "task" for item in items) == 2, "a first failure passes by itself"


@ON_ONE_ENGINE
def test_a_crash_that_is_an_honest_workers_first_does_not_wait(case: Case, app: FastAPI) -> None:
    with case.database.write() as session:
        history = History(session, session.query(Project).one())
        worker = history.add_worker("w9", "grace")
        history.add_experiment(worker, history.project.root_sha, None, make_proposal("Crash"), **crash())
    assert "grace/w9" not in {item["author"] for item in case.read().values()}
