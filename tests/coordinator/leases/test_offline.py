"""Jobs that a worker gave itself while the coordinator was away: taken in once, parents first, and only its own."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from shared.leases import GrantedLease, OfflineLease
from shared.protocol import API_PREFIX, now
from tests.support.messages import HARDWARE, make_result
from tests.support.volunteers import MiniWorker

pytestmark = pytest.mark.usefixtures("stays_whole")

TOKEN = "a-token-that-the-worker-made"


def own_lease(base_sha: str, **changes: Any) -> OfflineLease:
    fields = {
        "token": TOKEN, "worker": "w1", "agent": "search", "hardware": HARDWARE, "project": "tiny",
        "base_sha": base_sha, "seed": 5, "issued_at": now() - timedelta(hours=20),
    }  # fmt: skip
    return OfflineLease.model_validate(fields | changes)


def register(worker: MiniWorker, lease_id: UUID, own: OfflineLease) -> httpx.Response:
    return worker.http.put(f"{API_PREFIX}/leases/{lease_id}", json=own.model_dump(mode="json"), headers=worker._headers)


def code_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition("/")[2]


def as_lease(lease: GrantedLease, lease_id: UUID, base_sha: str) -> GrantedLease:
    """The lease as the worker knew it, as far as delivering needs it."""
    return lease.model_copy(update={"id": lease_id, "base": lease.base.model_copy(update={"sha": base_sha})})


def test_a_line_of_experiments_is_delivered_late_once_and_in_order(worker: MiniWorker) -> None:
    worker.measure_root()
    lease = worker.claim_job()
    files = worker.files_of(lease)
    assert worker.release(lease).status_code == 200
    first_id, second_id = uuid4(), uuid4()
    first = make_result(as_lease(lease, first_id, lease.base.sha), files, {"train.py": "DEPTH = 6\n"}, 3.1)
    assert first.commit is not None
    child_files = files | {"train.py": "DEPTH = 6\n"}
    second = make_result(as_lease(lease, second_id, first.commit.sha), child_files, {"train.py": "DEPTH = 7\n"}, 3.05)

    too_early = register(worker, second_id, own_lease(first.commit.sha))
    assert code_of(too_early) == (404, "not-found") and "Deliver parents first" in too_early.json()["detail"]
    for _ in range(2):  # the answer was lost, and it is told again
        told = register(worker, first_id, own_lease(lease.base.sha))
        assert (told.status_code, told.json()["state"]) == (200, "expired")
    assert worker.deliver(as_lease(lease, first_id, lease.base.sha), first).status_code == 201
    assert register(worker, first_id, own_lease(lease.base.sha)).json()["state"] == "done"
    assert worker.deliver(as_lease(lease, first_id, lease.base.sha), first).status_code == 200
    assert register(worker, second_id, own_lease(first.commit.sha)).status_code == 200
    assert worker.deliver(as_lease(lease, second_id, first.commit.sha), second).status_code == 201

    newest, older = worker.get_json("/experiments?project=tiny")["items"]
    assert newest["parent_id"] == older["id"]
    assert "went on by itself" in worker.get_json(f"/experiments/{older['id']}")["why"]
    assert worker.get_json("/leases?project=tiny")["items"] == []


def test_a_job_of_ones_own_is_an_experiment_and_nobody_elses(
    make_worker: Callable[..., MiniWorker], project: str
) -> None:
    worker, stranger = make_worker(), make_worker("w2", volunteer="bob")
    worker.measure_root()
    lease = worker.claim_job()
    lease_id = uuid4()
    own = own_lease(lease.base.sha)
    assert register(worker, lease_id, own).status_code == 200
    assert code_of(register(stranger, lease_id, own)) == (403, "lease-foreign")
    assert code_of(register(worker, lease_id, own_lease(lease.base.sha, token="x" * 20))) == (403, "lease-token-wrong")
    assert code_of(register(worker, uuid4(), own_lease(lease.base.sha, project="nowhere"))) == (404, "not-found")
    assert code_of(register(MiniWorker(worker.http, "wrong"), uuid4(), own)) == (401, "unauthorized")
    measurement = make_result(lease, worker.files_of(lease), {"train.py": "DEPTH = 6\n"})
    bare = measurement.model_copy(update={"commit": None, "proposal": None, "finding": None})
    assert code_of(worker.deliver(as_lease(lease, lease_id, lease.base.sha), bare)) == (422, "wrong-commit")


def test_a_moment_in_the_future_is_the_present(worker: MiniWorker) -> None:
    worker.measure_root()
    lease = worker.claim_job()
    told = register(worker, uuid4(), own_lease(lease.base.sha, issued_at=now() + timedelta(days=400)))
    assert told.status_code == 200
    assert worker.claim(holding=[str(lease.id)]).lease is not None  # it takes nothing from the worker's own jobs
