"""Delivery of results: stored whole, once, or not at all."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update

from coordinator.db.database import Database
from coordinator.models import Commit, Experiment, Finding, Run, Token
from shared.leases import GrantedLease, OfflineLease, Phase, ResultUpload
from shared.protocol import API_PREFIX, now
from tests.support.databases import ON_ONE_ENGINE, count_rows
from tests.support.messages import HARDWARE, make_result, make_run
from tests.support.volunteers import MiniWorker

BETTER = "LEARNING_RATE = 0.004\nDEPTH = 4\n"


@pytest.fixture
def lease(worker: MiniWorker) -> GrantedLease:
    """An experiment whose proposal was accepted."""
    worker.measure_root()
    lease = worker.claim_job()
    assert worker.propose(lease, {"train.py": BETTER}).accepted
    return lease


def test_result_is_stored_whole(worker: MiniWorker, database: Database) -> None:
    worker.measure_root(metric=3.3)
    lease, reply = worker.experiment(BETTER, metric=3.2)
    assert reply.posterior is not None and reply.posterior.runs == 1
    assert reply.posterior.metric_mean == pytest.approx(3.2, abs=0.01)
    detail = worker.get_json(f"/experiments/{reply.experiment_id}")
    assert detail["parent_sha"] == lease.base.sha
    assert "+LEARNING_RATE = 0.004" in detail["diff"] and "-LEARNING_RATE = 0.003" in detail["diff"]
    assert detail["finding"]["claim"].startswith("A larger learning rate helps")
    assert detail["posterior"]["verdict"] == "improved" and detail["posterior"]["standing"] == "provisional"
    files = worker.get_json(f"/projects/tiny/commits/{detail['sha']}/files")["files"]
    assert files["train.py"] == BETTER and "swarm.toml" in files


def test_same_result_again_gets_the_stored_answer(worker: MiniWorker, lease: GrantedLease, database: Database) -> None:
    upload = make_result(lease, worker.files_of(lease), {"train.py": BETTER})
    first = worker.deliver(lease, upload)
    before = count_rows(database)
    again = worker.deliver(lease, upload)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    sent = upload.model_copy(update={"run": upload.run.model_copy(update={"seed": lease.seed})})
    other = dict(reversed(sent.model_dump(mode="json").items()))  # as another version, or a proxy, may write it
    again = worker.post(f"/leases/{lease.id}/result", other, **{"Idempotency-Key": str(upload.run.id)})
    assert (again.status_code, again.json()) == (200, first.json())
    assert count_rows(database) == before


def test_same_key_with_another_body_is_a_conflict(worker: MiniWorker, lease: GrantedLease, database: Database) -> None:
    upload = make_result(lease, worker.files_of(lease), {"train.py": BETTER})
    worker.deliver(lease, upload)
    before = count_rows(database)
    other = upload.model_copy(update={"run": upload.run.model_copy(update={"metric": 1.5})})
    response = worker.deliver(lease, other)
    assert response.status_code == 409
    assert response.json()["type"] == "/problems/result-conflict"
    assert count_rows(database) == before


def test_result_after_release_is_still_accepted_once(worker: MiniWorker, lease: GrantedLease) -> None:
    assert worker.release(lease).json()["state"] == "released"
    upload = make_result(lease, worker.files_of(lease), {"train.py": BETTER})
    assert worker.deliver(lease, upload).status_code == 201
    assert worker.beat(lease, Phase.REPORTING).status_code == 410


def test_failures_are_kept_too(worker: MiniWorker, database: Database) -> None:
    worker.measure_root()
    _, reply = worker.experiment("LEARNING_RATE = \n", metric=None, reason="SyntaxError: invalid syntax")
    assert reply.posterior is None
    detail = worker.get_json(f"/experiments/{reply.experiment_id}")
    assert detail["outcome"] == "crashed" and detail["runs"][0]["reason"] == "SyntaxError: invalid syntax"
    assert detail["posterior"] is None


def bad_results(lease: GrantedLease, files: dict[str, str]) -> dict[str, tuple[int, str, dict[str, Any]]]:
    """Name -> status, problem, body."""
    good = make_result(lease, files, {"train.py": BETTER}).model_dump(mode="json")

    def with_files(changed: dict[str, str]) -> dict[str, Any]:
        return good | {"commit": good["commit"] | {"files": changed}}

    other_sha = "0" * 40
    return {
        "not editable": (422, "file-not-editable", with_files({"swarm.toml": "x"})),
        "dots": (422, "path-not-allowed", with_files({"../train.py": "x"})),
        "absolute": (422, "path-not-allowed", with_files({"/etc/passwd": "x"})),
        "git": (422, "path-not-allowed", with_files({".git/config": "x"})),
        "too large": (413, "file-too-large", with_files({"train.py": "#" * 5000})),
        "other content": (422, "commit-mismatch", with_files({"train.py": "DEPTH = 5\n"})),
        "other parent": (422, "wrong-commit", good | {"commit": good["commit"] | {"parent_sha": other_sha}}),
        "forged author": (
            422,
            "commit-invalid",
            good | {"commit": good["commit"] | {"author": "ada <a@b>\nparent " + other_sha}},
        ),
        "no commit": (422, "wrong-commit", good | {"commit": None, "proposal": None, "finding": None}),
        "half": (422, "request-invalid", good | {"finding": None}),
        "not a number": (422, "request-invalid", good | {"run": good["run"] | {"metric": "NaN"}}),
        "unknown field": (422, "request-invalid", good | {"verdict": "improved"}),
        "ok without metric": (422, "request-invalid", good | {"run": good["run"] | {"metric": None}}),
    }


@pytest.mark.parametrize(
    "name",
    ["not editable", "dots", "absolute", "git", "too large", "other content", "other parent", "forged author",
     "no commit", "half", "not a number", "unknown field", "ok without metric"],
)  # fmt: skip
@ON_ONE_ENGINE
def test_bad_result_is_refused_and_nothing_stored(
    worker: MiniWorker, lease: GrantedLease, database: Database, name: str
) -> None:
    status, code, body = bad_results(lease, worker.files_of(lease))[name]
    before = count_rows(database)
    response = worker.post(f"/leases/{lease.id}/result", body, **{"Idempotency-Key": body["run"]["id"]})
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, response.json()["type"]) == (status, f"/problems/{code}"), response.text
    assert response.json()["detail"]
    assert count_rows(database) == before
    good = make_result(lease, worker.files_of(lease), {"train.py": BETTER})
    assert worker.deliver(lease, good).status_code == 201, "a refused result must not spoil the lease"


def test_unknown_and_foreign_leases(
    worker: MiniWorker, lease: GrantedLease, database: Database, make_worker: Callable[..., MiniWorker]
) -> None:
    upload = make_result(lease, worker.files_of(lease), {"train.py": BETTER})
    before = count_rows(database)
    unknown = lease.model_copy(update={"id": upload.run.id})
    response = worker.deliver(unknown, upload)
    assert (response.status_code, response.json()["type"]) == (404, "/problems/lease-unknown")
    assert count_rows(database) == before
    mallory = make_worker(volunteer="mallory")
    before = count_rows(database)
    response = mallory.deliver(lease, upload)
    assert (response.status_code, response.json()["type"]) == (403, "/problems/lease-foreign")
    assert count_rows(database) == before


def test_a_revoked_token_speaks_for_no_lease(worker: MiniWorker, lease: GrantedLease, database: Database) -> None:
    upload = make_result(lease, worker.files_of(lease), {"train.py": BETTER})
    before = count_rows(database)
    with database.write() as session:
        session.execute(update(Token).values(revoked_at=now()))
    for response in (worker.beat(lease, Phase.TRAINING), worker.deliver(lease, upload), worker.release(lease)):
        assert (response.status_code, response.json()["type"]) == (401, "/problems/unauthorized")
    assert count_rows(database) == before
    with database.write() as session:
        session.execute(update(Token).values(revoked_at=None))
    assert worker.deliver(lease, upload).status_code == 201


def test_measurement_brings_no_commit(worker: MiniWorker, database: Database) -> None:
    lease = worker.claim_job()
    other = ResultUpload(run=make_run("0" * 40))
    response = worker.deliver(lease, other)
    assert (response.status_code, response.json()["type"]) == (422, "/problems/wrong-commit")
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Run)) == 0


def test_a_run_counts_once_across_leases(worker: MiniWorker, lease: GrantedLease) -> None:
    first = make_result(lease, worker.files_of(lease), {"train.py": BETTER})
    assert worker.deliver(lease, first).status_code == 201
    second_lease = worker.claim_job()
    second = make_result(second_lease, worker.files_of(second_lease), {"train.py": "DEPTH = 9\n"}, id=first.run.id)
    response = worker.deliver(second_lease, second)
    assert (response.status_code, response.json()["type"]) == (409, "/problems/result-conflict")


def test_oversized_body(worker: MiniWorker, lease: GrantedLease, database: Database) -> None:
    before = count_rows(database)
    response = worker.post(f"/leases/{lease.id}/result", {"padding": "x" * 5_000_000}, **{"Idempotency-Key": "x"})
    assert (response.status_code, response.json()["type"]) == (413, "/problems/body-too-large")

    def stream() -> Any:
        for _ in range(100):
            yield b"x" * 65_536

    response = worker.http.post(f"/api/v1/leases/{lease.id}/result", content=stream(), headers=worker._headers)
    assert (response.status_code, response.json()["type"]) == (413, "/problems/body-too-large")
    assert count_rows(database) == before


def test_replication_sharpens_the_posterior(worker: MiniWorker, make_worker: Callable[..., MiniWorker]) -> None:
    """A second worker's measurement of the seed tells most of all of that worker, and little of the seed."""
    first = worker.measure_root(metric=3.30)
    second = make_worker("w2").measure_root(metric=3.32)
    assert first.posterior is not None and second.posterior is not None
    assert second.posterior.metric_mean == pytest.approx(3.30, abs=0.001)
    assert second.posterior.metric_sd < first.posterior.metric_sd


def test_improvement_moves_the_branch(worker: MiniWorker) -> None:
    worker.measure_root(metric=3.3)
    _, worse = worker.experiment("DEPTH = 1\n", metric=3.5)
    branch = worker.get_json("/projects/tiny/branches")["items"][0]
    assert worse.experiment_id is not None
    root = worker.get_json("/projects/tiny")["root_sha"]
    assert branch["head_sha"] == root
    _, better = worker.experiment(BETTER, metric=3.1)
    detail = worker.get_json(f"/experiments/{better.experiment_id}")
    branch = worker.get_json("/projects/tiny/branches")["items"][0]
    assert branch["head_sha"] == detail["sha"] and branch["experiments"] == 2


def test_too_good_is_held(worker: MiniWorker, database: Database) -> None:
    worker.measure_root(metric=3.3)
    _, reply = worker.experiment(BETTER, metric=0.4)
    assert reply.posterior is not None and reply.posterior.standing == "held"
    for _ in range(3):
        lease = worker.claim_job()
        assert lease.base.sha != worker.get_json(f"/experiments/{reply.experiment_id}")["sha"]
    progress = worker.get_json("/projects/tiny/progress")
    assert progress["leader_id"] is None, "what is held leads nothing"
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Commit)) == 2
        assert session.scalar(select(func.count()).select_from(Experiment)) == 1
        assert session.scalar(select(func.count()).select_from(Finding)) == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_requests_store_at_the_same_moment_is_there_once(worker: MiniWorker) -> None:
    """Several connections look whether it is there, and then each would write it: a job of one's own with its worker,
    and a run whose id two leases report."""
    worker.measure_root()
    granted = worker.claim_job()
    own = OfflineLease(
        token="made-by-the-worker", worker="w2", agent="search", hardware=HARDWARE, project="tiny",
        base_sha=granted.base.sha, seed=granted.seed, issued_at=now(),
    ).model_dump(mode="json")  # fmt: skip
    first, second = (granted.model_copy(update={"id": uuid4()}) for _ in range(2))
    uploads = [
        make_result(lease, worker.files_of(granted), {"train.py": f"DEPTH = {depth}\n"})
        for lease, depth in ((first, 5), (second, 6))
    ]
    same = uploads[1].run.model_copy(update={"id": uploads[0].run.id})
    uploads[1] = uploads[1].model_copy(update={"run": same})

    def register(lease: GrantedLease) -> int:
        address = f"{API_PREFIX}/leases/{lease.id}"
        return worker.http.put(address, json=own, headers=worker._headers).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(register, [first, second] * 4)) == {200}
        replies = threads.map(worker.deliver, [first, second] * 4, uploads * 4)
    assert sorted(reply.status_code for reply in replies) == [200, 200, 200, 201, 409, 409, 409, 409]
