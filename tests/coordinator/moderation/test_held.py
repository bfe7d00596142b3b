"""Decisions on held results: accepted ones count, rejected ones never, and undoing restores all. On both engines."""

from math import inf
from typing import Any

import pytest
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.evidence import epochs
from coordinator.evidence.renewal import follow_decisions
from coordinator.models import Calibration, CommitPosterior, EvidenceEpoch, Project
from shared.workers import Role
from tests.support.accounts import code_of, make_person
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import HARDWARE, make_proposal
from tests.support.swarm_data import History, end_epochs
from tests.support.volunteers import MiniWorker

pytestmark = pytest.mark.usefixtures("stays_whole")

ROOT, TOO_GOOD, BELOW = 3.3, 0.3, 3.1
CLASS = HARDWARE.hardware_class


class Case:
    """A project with a result that is too good, by mallory."""

    def __init__(self, database: Database, http: TestClient) -> None:
        self.database, self.http = database, http
        with database.write() as session:
            history = History(session, session.query(Project).one())
            root = history.project.root_sha
            mallory = history.add_worker("m1", "mallory")
            for worker in (history.add_worker("w1", "ada"), mallory):
                for metric in (ROOT - 0.003, ROOT, ROOT + 0.003):
                    history.measure(worker, root, metric)
            self.sha = history.add_experiment(mallory, root, TOO_GOOD, make_proposal()).commit_sha
        end_epochs(database, always=True)
        self.boss = make_person(database, http, "boss", Role.MAINTAINER)

    def decide(self, decision: str | None) -> dict[str, Any]:
        path = f"/projects/tiny/held/{self.sha}/decision"
        done = self.boss.post(path, {"hardware_class": CLASS, "decision": decision, "reason": "looked at its log"})
        assert done.status_code == 200, done.text
        found: dict[str, Any] = done.json()
        return found

    def posteriors(self) -> list[tuple[Any, ...]]:
        with self.database.read() as session:
            rows = session.query(CommitPosterior).order_by(CommitPosterior.commit_sha)
            return [(r.commit_sha, r.metric_mean, r.effect_mean, r.verdict, r.standing) for r in rows]

    def standing(self) -> str:
        return next(row[-1] for row in self.posteriors() if row[0] == self.sha)

    def measure(self, metric: float, worker: str, volunteer: str, *, is_anchor: bool = False) -> None:
        with self.database.write() as session:
            history = History(session, session.query(Project).one())
            history.measure(history.add_worker(worker, volunteer, is_anchor=is_anchor), self.sha, metric)

    def leads(self) -> bool:
        record = self.http.get("/api/v1/records?project=tiny").json()["items"][0]
        leader = record["leader"]
        return leader is not None and leader["sha"] == self.sha

    def check_numbers(self) -> None:
        follow_decisions(self.database, inf)
        with self.database.read() as session:
            assert list(epochs.find_differences(session)) == []


@pytest.fixture
def case(database: Database, http: TestClient, project: str) -> Case:
    assert project == "tiny"
    return Case(database, http)


def test_a_held_result_waits_and_is_listed(case: Case) -> None:
    assert case.standing() == "held" and not case.leads()
    [topic] = case.http.get("/api/v1/topics", params={"project": "tiny"}).json()["items"]
    assert (topic["improved"], topic["unresolved"]) == (0, 1), "nobody counts it as a gain yet"
    waiting = case.boss.get("/held").json()["items"]
    assert [(one["sha"], one["volunteer"], one["decision"]) for one in waiting] == [(case.sha, "mallory", None)]


@ON_ONE_ENGINE
def test_accepting_lets_it_count_and_undoing_restores_everything(case: Case) -> None:
    before = case.posteriors()
    done = case.decide("accept")
    assert case.standing() == "provisional" and case.leads()
    assert case.http.get("/api/v1/experiments/1").json()["posterior"]["verdict"] == "improved"
    case.check_numbers()
    assert case.boss.get("/held").json()["items"][0]["decision"] == "accept"
    assert case.boss.post(f"/audit/{done['id']}/undo", {"reason": "too early"}).status_code == 201
    assert case.posteriors() == before and not case.leads()
    case.check_numbers()


@ON_ONE_ENGINE
def test_a_rejected_result_never_counts_whoever_repeats_it(case: Case) -> None:
    before = case.posteriors()
    done = case.decide("reject")
    for number in range(4):
        case.measure(TOO_GOOD, "w1", f"sybil-{number}")
    assert case.standing() == "rejected" and not case.leads()
    [row] = [row for row in case.posteriors() if row[0] == case.sha]
    assert (row[2], row[3]) == (None, "invalid"), "no effect of it stands anywhere"
    told = case.http.get("/api/v1/experiments/1/evidence").json()
    assert "A maintainer rejected this result" in str(told)
    worker = MiniWorker(case.http, make_person(case.database, case.http, "cy").token)
    for _ in range(3):
        lease = worker.claim().lease
        assert lease is not None and lease.base.sha != case.sha, "nobody builds on it or measures it"
        worker.release(lease)
    case.check_numbers()
    assert case.boss.post(f"/audit/{done['id']}/undo", {"reason": "it was real"}).status_code == 201
    assert len(case.posteriors()) == len(before) and case.standing() != "rejected"
    case.check_numbers()


@ON_ONE_ENGINE
def test_what_is_below_a_rejected_result_is_suspect_until_others_test_it(case: Case) -> None:
    with case.database.write() as session:
        history = History(session, session.query(Project).one())
        child = history.add_experiment(history.add_worker("m1", "mallory"), case.sha, BELOW, make_proposal()).commit_sha
    end_epochs(case.database, always=True)
    before = case.posteriors()
    done = case.decide("reject")
    assert {row[0]: row[-1] for row in case.posteriors()}[child] == "suspect"
    case.check_numbers()
    assert case.boss.post(f"/audit/{done['id']}/undo", {"reason": "it was real"}).status_code == 201
    case.check_numbers()
    assert case.posteriors() == before


@ON_ONE_ENGINE
def test_a_rejected_result_teaches_nothing_of_its_class(case: Case) -> None:
    """Neither noise, responses nor priors of effects; a decision that is undone lets its runs teach again."""

    def read() -> tuple[Any, ...]:
        end_epochs(case.database, always=True)
        with case.database.read() as session:
            [epoch] = session.query(EvidenceEpoch)
            offsets = [row.offset_mean for row in session.query(Calibration).order_by(Calibration.worker_id)]
            return epoch.noise_sd, epoch.effects, offsets

    for number, wrong in enumerate((0.04, -0.05, 0.07)):
        case.measure(TOO_GOOD + wrong, "w1", f"sybil-{number}")
        case.measure(TOO_GOOD - wrong, "w1", f"sybil-{number}")
    before = read()
    assert before[2][-3:] != [None] * 3
    done = case.decide("reject")
    noise, effects, offsets = read()
    assert noise < before[0] and effects["all"][3] == 0 == before[1]["all"][3] - 1
    assert offsets[-3:] == [None] * 3, "only what was rejected is shared with them"
    case.check_numbers()
    assert case.boss.post(f"/audit/{done['id']}/undo", {"reason": "it was real"}).status_code == 201
    assert read() == before
    case.check_numbers()


def test_two_anchors_decide_and_nobody_else(case: Case) -> None:
    case.decide("check")
    assert case.standing() == "held"
    for number in range(3):
        case.measure(TOO_GOOD, "w1", f"sybil-{number}")
    case.measure(TOO_GOOD, "a1", "boss", is_anchor=True)
    assert case.standing() == "held", "one anchor is not two"
    case.measure(TOO_GOOD, "a1", "boss", is_anchor=True)
    assert case.standing() == "held", "nor is the same one twice"
    case.measure(TOO_GOOD, "a2", "boss", is_anchor=True)
    assert case.standing() != "held", "both found it"
    case.check_numbers()


def test_anchors_are_asked_each_once_and_find_that_it_does_not_repeat(case: Case) -> None:
    case.decide("check")
    for name, is_asked in (("a1", True), ("a1", False), ("a2", True)):
        with case.database.write() as session:
            history = History(session, session.query(Project).one())
            anchor = history.add_worker(name, "boss", is_anchor=True)
            history.measure(anchor, history.project.root_sha, ROOT)
        worker = MiniWorker(case.http, case.boss.token, name)
        lease = worker.claim_job()
        assert (lease.base.sha == case.sha) is is_asked
        worker.release(lease)
        if is_asked:
            case.measure(BELOW, name, "boss")
    with case.database.read() as session:
        row = session.query(CommitPosterior).filter_by(commit_sha=case.sha).one()
        assert row.standing == "provisional" and row.metric_mean > BELOW - 0.05, "the number is the anchors'"
    case.check_numbers()


@ON_ONE_ENGINE
def test_only_what_is_held_is_decided_upon(case: Case) -> None:
    with case.database.read() as session:
        root = session.query(Project).one().root_sha
    for sha, status in ((root, 404), ("f" * 40, 404)):
        body = {"hardware_class": CLASS, "decision": "accept", "reason": "no reason"}
        assert case.boss.post(f"/projects/tiny/held/{sha}/decision", body).status_code == status
    with case.database.write() as session:
        history = History(session, session.query(Project).one())
        honest = history.add_experiment(history.add_worker("w1", "ada"), root, 3.29, make_proposal()).commit_sha
    body = {"hardware_class": CLASS, "decision": "reject", "reason": "I dislike it"}
    refused = case.boss.post(f"/projects/tiny/held/{honest}/decision", body)
    assert code_of(refused) == (409, "not-held")
    eve = make_person(case.database, case.http, "eve")
    assert code_of(eve.post(f"/projects/tiny/held/{case.sha}/decision", body)) == (403, "not-allowed")


def test_the_first_decision_stands_until_it_is_taken_back(case: Case) -> None:
    """Whoever decides later is told whose decision stands, at the route and in the queue."""
    first = case.decide("reject")
    other = make_person(case.database, case.http, "other", Role.MAINTAINER)
    path = f"/projects/tiny/held/{case.sha}/decision"
    late = {"hardware_class": CLASS, "reason": "it repeats"}
    items = {"items": [f"held:tiny/{case.sha}/{CLASS}"], "reason": "it repeats"}
    for decision in ("accept", "check", "reject"):
        for refused in (other.post(path, late | {"decision": decision}),
                        other.post("/queue/actions", items | {"action": decision})):  # fmt: skip
            assert code_of(refused) == (409, "already-decided")
            assert "boss decided to reject it at " in refused.json()["detail"]
            assert "looked at its log" in refused.json()["detail"]
    assert case.standing() == "rejected"
    assert other.post(f"/audit/{first['id']}/undo", {"reason": "it repeats"}).status_code == 201
    assert other.post(path, late | {"decision": "accept"}).status_code == 200
    assert other.post(path, late | {"decision": None}).status_code == 200, "or with null"
    assert other.post(path, late | {"decision": "check"}).status_code == 200
