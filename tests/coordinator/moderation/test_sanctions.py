"""A stopped account writes nothing: attempts that work before its sanction fail after it, on both engines."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from fastapi.testclient import TestClient

from coordinator.accounts.service import create_link, get_account
from coordinator.db.database import Database
from coordinator.events.audit import Actor
from coordinator.moderation import service
from shared.leases import GrantedLease, OfflineLease, Phase, ResultUpload
from shared.protocol import API_PREFIX, now
from shared.workers import Role
from tests.support.accounts import Person, code_of, dump, make_person
from tests.support.messages import HARDWARE, make_result
from tests.support.tokens import create_token
from tests.support.volunteers import MiniWorker

BOSS = Actor("boss")
WORK = ("says that it rests", "gives itself a job", "heartbeats", "delivers")


@dataclass
class Mallory:
    """An account with an experiment, a job under way, and all that it can ask for."""

    person: Person
    worker: MiniWorker
    job: GrantedLease
    result: ResultUpload
    project: str
    link: str

    def attempt(self, *, only_work: bool = False) -> Iterator[tuple[str, httpx.Response]]:
        """Every kind of write, in an order in which each works; or only those that name a worker."""
        worker, job, person = self.worker, self.job, self.person
        own = OfflineLease(
            token="a-token-that-the-worker-made", worker="w1", agent="search", hardware=HARDWARE,
            project=self.project, base_sha=job.base.sha, seed=5, issued_at=now() - timedelta(hours=2),
        )  # fmt: skip
        branch = {"name": f"b{uuid4().hex[:6]}", "theme": "Mine."}
        paper = "/findings/1"
        writes: dict[str, Callable[[], httpx.Response]] = {
            "claims with a new worker": lambda: self.claims("another"),
            "revises its paper": lambda: person.post(f"{paper}/versions", {"claim": "Better.", "agent": "scripted"}),
            "retracts its paper": lambda: person.post(f"{paper}/retraction", {"text": "Oh."}),
            "restores its paper": lambda: person.post(f"{paper}/restoration", {"text": "Hm."}),
            "names a branch": lambda: person.post(f"/projects/{self.project}/branches", branch),
            "says that it rests": lambda: person.post("/workers/notices", {"worker": "w1", "state": "paused"}),
            "gives itself a job": lambda: person.send(
                "PUT", f"{API_PREFIX}/leases/{uuid4()}", own.model_dump(mode="json")
            ),
            "heartbeats": lambda: worker.beat(job, Phase.TRAINING, step=3, share=0.3),
            "delivers": lambda: worker.deliver(job, self.result),
            "signs in by a link": lambda: person.http.post(f"{API_PREFIX}/sign-in", json={"secret": self.link}),
            "revokes a token": lambda: person.post("/tokens/1/revocation", {"reason": "lost it"}),
        }
        for name, write in writes.items():
            if name in WORK or not only_work:
                yield name, write()

    def claims(self, name: str) -> httpx.Response:
        """A claim; one without a job is no success."""
        worker = MiniWorker(self.person.http, self.person.token, name)
        reply = worker.claim()
        return httpx.Response(200 if reply.lease else 403, json={"type": "/problems/nothing", "detail": reply.reason})


@pytest.fixture
def mallory(project: str, http: TestClient, database: Database) -> Mallory:
    with database.write() as session:
        token = create_token(session, "mallory", "test")
        _, link = create_link(session, get_account(session, "mallory"))
    worker = MiniWorker(http, token, "w1")
    worker.measure_root()
    worker.experiment("LR = 0.5\n")
    job = worker.claim_job()
    files = {"train.py": "LR = 0.25\n"}
    assert worker.propose(job, files).accepted
    result = make_result(job, worker.files_of(job), files, 3.1)
    return Mallory(Person(http, "mallory", token), worker, job, result, project, link)


def test_without_a_sanction_each_attempt_works(mallory: Mallory) -> None:
    refused = {name: answer.text for name, answer in mallory.attempt() if answer.status_code not in (200, 201)}
    assert not refused


SANCTIONS: dict[str, Callable[..., object]] = {
    "suspended": lambda session: service.set_suspension(session, BOSS, "mallory", "spam", is_on=True),
    "quarantined": lambda session: service.set_quarantine(session, BOSS, "mallory", None, "lies", is_on=True),
}
UNDONE: dict[str, Callable[..., object]] = {
    "suspended": lambda session: service.set_suspension(session, BOSS, "mallory", "sorry", is_on=False),
    "quarantined": lambda session: service.set_quarantine(session, BOSS, "mallory", None, "sorry", is_on=False),
}


@pytest.mark.parametrize("sanction", list(SANCTIONS))
def test_a_sanction_stops_every_write_and_its_end_allows_them_all(
    mallory: Mallory, database: Database, sanction: str
) -> None:
    with database.write() as session:
        SANCTIONS[sanction](session)
    before = dump(database)
    answers = dict(mallory.attempt())
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 403)
    assert dump(database) == before, "nothing was written"
    with database.write() as session:
        UNDONE[sanction](session)
    assert {answer.status_code for _, answer in mallory.attempt()} <= {200, 201}, "an honest account goes on"


def test_a_worker_in_quarantine_writes_nothing_and_the_accounts_others_go_on(
    mallory: Mallory, database: Database
) -> None:
    other = MiniWorker(mallory.person.http, mallory.person.token, "w2")
    with database.write() as session:
        service.set_quarantine(session, BOSS, "mallory", "w1", "its fan is broken", is_on=True)
    before = dump(database)
    assert {name: answer.status_code for name, answer in mallory.attempt(only_work=True)} == dict.fromkeys(WORK, 403)
    assert mallory.worker.claim().lease is None
    assert dump(database) == before
    assert other.claim().lease is not None


def test_nobody_stops_those_above_them(http: TestClient, database: Database) -> None:
    boss = make_person(database, http, "boss", Role.MAINTAINER)
    moderator, other = (make_person(database, http, name, Role.MODERATOR) for name in ("mo", "other"))
    make_person(database, http, "vol")
    for target in ("boss", "other"):
        for way in ("suspension", "quarantine"):
            refused = moderator.post(f"/accounts/{target}/{way}", {"reason": "a coup"})
            assert code_of(refused) == (403, "not-allowed")
    assert code_of(moderator.post("/accounts/mo/role", {"reason": "myself", "role": "maintainer"})) == (
        403,
        "not-allowed",
    )
    assert moderator.post("/accounts/vol/suspension", {"reason": "spam"}).status_code == 200
    assert boss.post("/accounts/other/suspension", {"reason": "absent"}).status_code == 200
    assert code_of(other.get("/audit")) == (403, "account-suspended")


def test_a_swarm_keeps_a_maintainer(http: TestClient, database: Database) -> None:
    boss = make_person(database, http, "boss", Role.MAINTAINER)
    alone = boss.post("/accounts/boss/role", {"reason": "I leave", "role": "volunteer"})
    assert code_of(alone) == (409, "last-maintainer")
    assert boss.post("/accounts/heir/role", {"reason": "heir"}).status_code == 422
    make_person(database, http, "heir")
    assert boss.post("/accounts/heir/role", {"reason": "the heir", "role": "maintainer"}).status_code == 200
    assert boss.post("/accounts/boss/role", {"reason": "I leave", "role": "volunteer"}).status_code == 200
    assert code_of(boss.get("/audit")) == (403, "not-allowed")


def test_an_author_does_not_take_back_a_maintainers_retraction(
    mallory: Mallory, http: TestClient, database: Database
) -> None:
    boss = make_person(database, http, "boss", Role.MAINTAINER)
    assert mallory.person.post("/findings/1/retraction", {"text": "Oh."}).status_code == 201
    assert mallory.person.post("/findings/1/restoration", {"text": "Hm."}).status_code == 201, "its own"
    assert boss.post("/findings/1/retraction", {"text": "It does not repeat."}).status_code == 201
    assert code_of(mallory.person.post("/findings/1/restoration", {"text": "It does."})) == (403, "not-allowed")
    assert boss.post("/findings/1/restoration", {"text": "It does."}).status_code == 201
    assert mallory.person.post("/findings/1/retraction", {"text": "Oh."}).status_code == 201
    for is_on in (False, True):  # by the command, which leaves no note
        with database.write() as session:
            service.set_retraction(session, BOSS, 1, "It does not repeat.", is_on=is_on)
    assert code_of(mallory.person.post("/findings/1/restoration", {"text": "It does."})) == (403, "not-allowed")
    assert boss.post("/findings/1/restoration", {"text": "It does."}).status_code == 201


def test_one_account_does_not_take_all_places_of_a_project(http: TestClient, database: Database, project: str) -> None:
    flood, honest = make_person(database, http, "flood"), make_person(database, http, "ada")
    path = f"/projects/{project}/branches"
    codes = [flood.post(path, {"name": f"b{n}", "theme": "Mine."}).status_code for n in range(8)]
    assert codes == [201, 201, *[409] * 6]
    assert honest.post(path, {"name": "warmup", "theme": "Warm up."}).status_code == 201
