"""Moderators write to a worker: its heartbeat brings the message until it says that it was shown. On both engines."""

from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from shared.leases import HeartbeatReply, Phase
from shared.workers import MessageReceipt, Role
from tests.support.accounts import browse_as, code_of, make_person
from tests.support.volunteers import MiniWorker


def test_a_message_comes_with_heartbeats_until_it_was_shown(
    app: FastAPI, http: TestClient, database: Database, worker: MiniWorker
) -> None:
    boss = make_person(database, http, "boss", Role.MODERATOR)
    lease = worker.claim_job()

    def beat(step: int) -> Any:
        reply = HeartbeatReply.model_validate_json(worker.beat(lease, Phase.TRAINING, step=step).content)
        return reply.message and (reply.message.number, reply.message.text)

    def send(text: str) -> Any:
        return boss.post("/accounts/ada/message", {"worker": "w1", "text": text})

    assert beat(1) is None
    assert send("Please update.\x1b]0;x\x07\u202e").json()["after"] == {"message": "Please update.]0;x"}
    assert beat(2) == beat(3) == (1, "Please update.]0;x"), "it is lost with no answer"
    sent = send("Please update today.")
    assert beat(4) == (2, "Please update today.")
    old, new = (MessageReceipt(worker="w1", number=number) for number in (1, 2))
    assert worker.post("/workers/receipts", old).status_code == 200 and beat(5) is not None
    page = browse_as(app, "boss").get("/workers/1")
    assert "waits for its next heartbeat: <bdi>Please update today.</bdi>" in page.text
    assert worker.post("/workers/receipts", new).status_code == 200 and beat(6) is None
    assert "showed the last message" in browse_as(app, "boss").get("/workers/1").text
    undo = {"reason": "it is old"}
    assert code_of(boss.post(f"/audit/{sent.json()['id']}/undo", undo)) == (409, "not-undoable"), "it was shown"
    later = send("Never mind.")
    assert boss.post(f"/audit/{later.json()['id']}/undo", undo).status_code == 201 and beat(7) is None
    assert send("x" * 501).status_code == send("hm").status_code == 422
    browser = browse_as(app, "boss")
    browser.post("/workers/1/message", reason="From the page.")
    assert beat(8) == (5, "From the page.")
    assert browser.post("/workers/1/message", reason="x" * 501).status_code == 422 and beat(9) == (5, "From the page.")
