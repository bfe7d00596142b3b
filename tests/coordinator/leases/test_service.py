"""Claims, heartbeats, proposals and releases over the API."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from coordinator.db.database import Database
from coordinator.models import Lease
from coordinator.selection import running_jobs
from shared.experiments import ProposalSubmission
from shared.leases import ClaimReply, Phase, ResultUpload
from shared.protocol import now
from tests.support.clock import Clock
from tests.support.messages import HARDWARE, claim_request, make_proposal, make_result, make_run
from tests.support.volunteers import MiniWorker


def test_first_job_is_the_seed_then_experiments(worker: MiniWorker) -> None:
    lease = worker.claim_job()
    assert lease.kind == "replicate" and lease.base.sha == lease.root_sha
    assert "unchanged seed" in lease.why
    worker.measure_root()
    lease = worker.claim_job()
    assert lease.kind == "improve" and lease.base.files == {"train.py": "LEARNING_RATE = 0.003\nDEPTH = 4\n"}
    assert "Thompson" in lease.why


def test_no_project_is_a_reason_not_an_error(make_worker: Callable[..., MiniWorker]) -> None:
    reply = make_worker().claim()
    assert reply.lease is None and "no project" in reply.reason and reply.retry_after_seconds


def test_while_a_worker_measures_the_seed_there_is_no_second_job(worker: MiniWorker) -> None:
    lease = worker.claim_job()
    reply = worker.claim(holding=[str(lease.id)])
    assert reply.lease is None and "baseline is being measured" in reply.reason
    assert worker.deliver(lease, ResultUpload(run=make_run(lease.base.sha))).status_code == 201
    assert worker.claim_job(holding=[str(lease.id)]).kind == "improve"


def test_a_broken_worker_is_told_so(worker: MiniWorker) -> None:
    for _ in range(3):
        lease = worker.claim_job()
        upload = ResultUpload(run=make_run(lease.base.sha, None, reason="out of memory"))
        assert worker.deliver(lease, upload).status_code == 201
    reply = worker.claim()
    assert reply.lease is None and "failed 3 times" in reply.reason


def test_wrong_or_missing_token(worker: MiniWorker, http: TestClient) -> None:
    stranger = MiniWorker(http, "swt_wrong")
    response = stranger.post("/leases", claim_request())
    assert (response.status_code, response.json()["type"]) == (401, "/problems/unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    response = http.post("/api/v1/leases", json=claim_request().model_dump(mode="json"))
    assert (response.status_code, response.json()["type"]) == (401, "/problems/unauthorized")


def test_other_protocol_version(worker: MiniWorker) -> None:
    response = worker.post("/leases", claim_request(protocol=99))
    assert (response.status_code, response.json()["type"]) == (426, "/problems/protocol-unsupported")
    assert "update the coordinator" in response.json()["detail"]


def test_unknown_project(worker: MiniWorker) -> None:
    response = worker.post("/leases", claim_request(project="nope"))
    assert (response.status_code, response.json()["type"]) == (404, "/problems/not-found")


def test_a_worker_that_starts_anew_gives_up_what_it_forgot(worker: MiniWorker) -> None:
    worker.measure_root()
    first = worker.claim_job()
    second = worker.claim_job()
    assert worker.beat(first, Phase.STARTING).status_code == 410
    third = worker.claim_job(holding=[str(second.id)])
    assert worker.beat(second, Phase.DRAFTING).status_code == 200
    fourth = worker.claim_job(holding=[str(second.id), str(third.id)])
    reply = worker.claim(holding=[str(lease.id) for lease in (second, third, fourth)])
    assert reply.lease is None and "holds 3 jobs" in reply.reason


def test_heartbeats_renew_and_are_seen(worker: MiniWorker) -> None:
    lease = worker.claim_job()
    reply = worker.beat(lease, Phase.TRAINING, step=120, loss=3.5, share=0.4)
    assert reply.status_code == 200 and reply.json()["state"] == "running"
    live = worker.get_json("/leases?project=tiny")["items"]
    assert [(row["worker"], row["phase"], row["step"], row["share"]) for row in live] == [
        ("ada/w1", "training", 120, 0.4)
    ]
    wrong = worker.beat(lease.model_copy(update={"token": "guess"}), Phase.TRAINING)
    assert (wrong.status_code, wrong.json()["type"]) == (403, "/problems/lease-token-wrong")


def test_expiry_is_a_predicate_and_a_late_result_counts(worker: MiniWorker, database: Database) -> None:
    worker.measure_root()
    lease = worker.claim_job()
    files = {"train.py": "DEPTH = 5\n"}
    assert worker.propose(lease, files).accepted
    with database.write() as session:
        session.execute(update(Lease).where(Lease.id == lease.id).values(expires_at=now() - timedelta(seconds=1)))
    assert worker.get_json("/leases?project=tiny")["items"] == []
    response = worker.beat(lease, Phase.TRAINING)
    assert (response.status_code, response.json()["type"]) == (410, "/problems/lease-ended")
    upload = make_result(lease, worker.files_of(lease), files)
    assert worker.deliver(lease, upload).status_code == 201


def test_a_clock_that_goes_back_revives_no_job(
    worker: MiniWorker, make_worker: Callable[..., MiniWorker], clock: Clock
) -> None:
    """Work given away after a lease expired is not held twice."""
    worker.measure_root()
    other = make_worker("w2")
    other.measure_root()
    lease = worker.claim_job()
    files = {"train.py": "DEPTH = 5\n"}
    assert worker.propose(lease, files).accepted
    clock.jump(200)
    other_lease = other.claim_job()
    lookalike = {"train.py": "DEPTH=5  # the same, in other words\n"}
    assert other.propose(other_lease, lookalike).accepted, "a reservation ends with its lease"
    clock.jump(-200)
    assert [row["id"] for row in worker.get_json("/leases?project=tiny")["items"]] == [str(other_lease.id)]
    assert worker.beat(lease, Phase.TRAINING).status_code == 410
    upload = make_result(lease, worker.files_of(lease), files)
    assert worker.deliver(lease, upload).status_code == 201, "a late result counts all the same"


def test_a_worker_holds_no_more_than_its_share_wherever_the_clock_goes(worker: MiniWorker, clock: Clock) -> None:
    worker.measure_root()
    held = [worker.claim_job().id]
    held.append(worker.claim_job(holding=held).id)
    clock.jump(200)
    held.append(worker.claim_job(holding=held).id)
    clock.jump(-200)
    assert [row["id"] for row in worker.get_json("/leases?project=tiny")["items"]] == [str(held[-1])]


def test_duplicates_are_told_of_whom(worker: MiniWorker, make_worker: Callable[..., MiniWorker]) -> None:
    worker.measure_root()
    _, reply = worker.experiment("DEPTH = 5\n")
    lease = worker.claim_job()
    again = worker.propose(lease, {"train.py": "DEPTH = 5\n"})
    assert not again.accepted and again.duplicate_of == reply.experiment_id
    parent = worker.propose(lease, dict(lease.base.files))
    assert not parent.accepted
    other = make_worker("w2")
    other.measure_root()
    other_lease = other.claim_job()
    assert other.propose(other_lease, {"train.py": "DEPTH = 6\n"}).accepted
    reserved = worker.propose(lease, {"train.py": "DEPTH = 6\n"})
    assert not reserved.accepted and "running" in reserved.reason
    assert other.release(other_lease).status_code == 200
    assert worker.propose(lease, {"train.py": "DEPTH = 6\n"}).accepted, "a reservation ends with its lease"


def test_a_proposal_may_be_sent_again(worker: MiniWorker) -> None:
    worker.measure_root()
    lease = worker.claim_job()
    for _ in range(2):
        assert worker.propose(lease, {"train.py": "DEPTH = 5\n"}).accepted
    other = worker.post(
        f"/leases/{lease.id}/proposal",
        ProposalSubmission(token=lease.token, proposal=make_proposal(), files={"train.py": "DEPTH = 6\n"}),
    )
    assert (other.status_code, other.json()["type"]) == (409, "/problems/lease-transition")


def test_agents_are_told_of_earlier_and_running_trials(
    worker: MiniWorker, make_worker: Callable[..., MiniWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_jobs, "KEPT_SECONDS", 0.0)
    worker.measure_root()
    worker.experiment("DEPTH = 5\n", metric=3.1)
    worker.experiment("DEPTH = 50\n", metric=None, reason="out of memory")
    running = worker.claim_job()
    assert worker.propose(running, {"train.py": "DEPTH = 6\n"}, title="DEPTH 4 → 6").accepted
    other = make_worker("w2")
    other.measure_root()
    assert other.claim_job().trials == []
    lease = other.claim_job(wants_trials=True)
    outcomes = [(trial.outcome, trial.metric_mean is not None) for trial in lease.trials]
    assert outcomes == [("running", False), ("crashed", False), ("ok", True)]
    assert lease.trials[2].settings == {"LEARNING_RATE": 0.004, "DEPTH": 4}
    assert "DEPTH 4 → 6" in lease.context and "Its author says" in lease.context


def test_classes_are_not_compared(worker: MiniWorker, make_worker: Callable[..., MiniWorker]) -> None:
    worker.measure_root()
    worker.experiment("DEPTH = 5\n", metric=3.1)
    big = HARDWARE.model_copy(update={"cores": 64}).model_dump(mode="json")
    other = make_worker("w2")
    lease = other.claim_job(hardware=big)
    assert lease.kind == "replicate" and lease.base.posterior is None and lease.trials == []


@pytest.mark.parametrize("path", ["proposal", "heartbeat", "release", "result"])
def test_nonsense_bodies(worker: MiniWorker, path: str) -> None:
    lease = worker.claim_job()
    response = worker.post(f"/leases/{lease.id}/{path}", {"nonsense": True}, **{"Idempotency-Key": str(lease.id)})
    assert (response.status_code, response.json()["type"]) == (422, "/problems/request-invalid")


def test_an_answer_that_arrives_is_committed(app: FastAPI, worker: MiniWorker, database: Database) -> None:
    """The transaction ends before the response is sent: while the client reads it, another connection sees it."""
    reply = ClaimReply.model_validate_json(worker.post("/leases", claim_request()).content)
    assert reply.lease is not None
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql("select state from leases").all()
    assert [row[0] for row in rows] == ["ready"]


def test_a_commit_that_fails_is_not_answered_with_success(
    worker: MiniWorker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = worker.claim_job()

    commit = database.engine.dialect.do_commit

    def fail(connection: Any) -> None:
        if getattr(connection, "read_only", False):  # PostgreSQL's reads end with a commit, too
            commit(connection)
        else:
            raise OperationalError("COMMIT", {}, Exception("disk is full"))

    with monkeypatch.context() as patched:  # the driver's door: where a real disk would say so
        patched.setattr(database.engine.dialect, "do_commit", fail)
        response = worker.beat(lease, Phase.TRAINING, step=3)
    assert response.status_code == 503 and response.json()["type"] == "/problems/database-unavailable"
    assert response.headers["retry-after"] == "5"
    assert worker.get_json("/leases?project=tiny")["items"][0]["step"] == 0


def test_code_that_only_looks_different_is_a_duplicate(
    worker: MiniWorker, make_worker: Callable[..., MiniWorker]
) -> None:
    worker.measure_root()
    lease = worker.claim_job()
    looks = worker.propose(lease, {"train.py": "# a comment\nLEARNING_RATE = 0.003\n\nDEPTH = 4\n"})
    assert not looks.accepted and "Only comments, layout or names differ" in looks.reason
    assert worker.propose(lease, {"train.py": "DEPTH = 5\n"}).accepted
    other = make_worker("w2")
    other.measure_root()
    other_lease = other.claim_job()
    reserved = other.propose(other_lease, {"train.py": "DEPTH=5  # five\n"})
    assert not reserved.accepted and "running code now that does the same" in reserved.reason
    upload = make_result(lease, worker.files_of(lease), {"train.py": "DEPTH = 5\n"})
    reply = worker.deliver(lease, upload)
    assert reply.status_code == 201
    finished = other.propose(other_lease, {"train.py": "DEPTH=5  # five\n"})
    assert not finished.accepted and finished.duplicate_of == reply.json()["experiment_id"]
    assert other.propose(other_lease, {"train.py": "DEPTH=6  # six\n"}).accepted


def test_live_jobs_are_filtered_and_sorted_both_ways(
    make_worker: Callable[..., MiniWorker], project: str, database: Database
) -> None:
    make_worker("w1", "ada").measure_root()
    first, second = make_worker("w1", "ada"), make_worker("w1", "grace")
    lease = first.claim_job()
    second.claim_job()
    assert first.propose(lease, {"train.py": "LEARNING_RATE = 0.003\nDEPTH = 5\n"}).accepted
    later = {"phase": Phase.TRAINING, "expires_at": lease.expires_at + timedelta(hours=1)}
    with database.write() as session:  # as a heartbeat does, once it is written
        session.execute(update(Lease).where(Lease.id == lease.id).values(later))

    def ask(**given: str) -> list[str]:
        answer = first.http.get("/api/v1/leases", params={"project": project} | given)
        assert answer.status_code == 200, answer.text
        return [row["worker"] for row in answer.json()["items"]]

    assert ask() == ask(sort="issued") == ["ada/w1", "grace/w1"] and ask(ascending="false") == ["grace/w1", "ada/w1"]
    assert ask(sort="heard") == ["grace/w1", "ada/w1"] and ask(sort="heard", ascending="false") == [
        "ada/w1",
        "grace/w1",
    ]
    for given in ({"volunteer": "ada"}, {"worker": "ada/w1"}, {"phase": "training"}, {"axis": "DEPTH"}):
        assert ask(**given) == ["ada/w1"], given
    fitting = {"worker": "w1", "branch": "baseline", "hardware_class": HARDWARE.hardware_class}
    assert len(ask(**fitting, since="2020-01-01T00:00:00Z", until="2090-01-01T00:00:00Z")) == 2
    assert "ada/w1" in ask(kind=lease.kind)
    for given in ({"kind": "adopt"}, {"branch": "x"}, {"hardware_class": "x"}, {"until": "2020-01-01T00:00:00Z"}):
        assert ask(**given) == [], given
