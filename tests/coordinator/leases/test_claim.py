"""Versions and hardware: which workers get jobs; all may deliver."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.evidence.quarantine import set_anchor
from coordinator.leases.claim import check_versions, why_unfit
from coordinator.leases.errors import ProtocolUnsupportedError
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from shared.contract import Contract
from shared.experiments import JobKind
from shared.leases import Phase
from shared.protocol import PROTOCOL_HEADER, VERSION_HEADER, Versions, version_key
from shared.runs import DeviceKind, Hardware
from tests.support.messages import HARDWARE, claim_request, make_result
from tests.support.seeds import write_seed
from tests.support.tiny_project import tiny_contract
from tests.support.volunteers import MiniWorker

OURS = Versions(version="0.5.0", protocol=4, oldest_protocol=3, oldest_worker="0.4")


@pytest.mark.parametrize(("protocol", "version"), [(3, "0.4"), (4, "0.10.1"), (4, "1"), (4, None), (3, "0.4.dev3")])
def test_versions_that_fit(protocol: int, version: str | None) -> None:
    check_versions(protocol, version, OURS)


@pytest.mark.parametrize(
    ("protocol", "version", "words"),
    [
        (2, "0.4", "update the worker"),
        (5, "0.9", "update the coordinator"),
        (4, "0.3.99", "gives jobs to 0.4 or newer"),
        (4, "unknown", "gives jobs to 0.4 or newer"),
    ],
)
def test_versions_that_do_not(protocol: int, version: str, words: str) -> None:
    with pytest.raises(ProtocolUnsupportedError, match=words) as refusal:
        check_versions(protocol, version, OURS)
    assert refusal.value.to_problem().model_dump()["versions"] == OURS.model_dump()


def test_versions_are_compared_as_numbers() -> None:
    assert version_key("0.10.1") > version_key("0.9") > version_key("0.1.dev5+g123") > version_key("nightly")


def with_memory(needed: int | None) -> Contract:
    contract = tiny_contract("http://nowhere", b"")
    limits = contract.limits.model_copy(update={"device_memory_mib": needed})
    return contract.model_copy(update={"limits": limits})


def gpu(memory_mib: int) -> Hardware:
    return Hardware(kind=DeviceKind.CUDA, model="GPU", memory_mib=memory_mib, cores=1)


def test_a_device_that_is_too_small_is_told_what_is_needed() -> None:
    assert why_unfit(with_memory(None), HARDWARE) == ""
    assert why_unfit(with_memory(24_000), gpu(24_576)) == ""
    assert why_unfit(with_memory(24_000), gpu(8_192)) == (
        "The project gpt-cpu needs a GPU with 24,000 MiB of memory; this one has 8,192 MiB."
    )
    assert "24,000 MiB of memory, and this worker has none" in why_unfit(with_memory(24_000), HARDWARE)


def test_a_worker_gets_no_job_of_a_project_that_it_is_too_small_for(
    make_worker: Callable[..., MiniWorker], database: Database, tmp_path: Path
) -> None:
    seed = write_seed(tmp_path / "large", "large")
    with (seed / "swarm.toml").open("a") as contract:
        contract.write("\n[limits]\ndevice_memory_mib = 40000\n")
    with database.write() as session:
        create_project(session, seed)
    worker = make_worker()
    for hardware, words in ((HARDWARE, "this worker has none"), (gpu(24_576), "this one has 24,576 MiB")):
        for project in (None, "large"):
            reply = worker.claim(hardware=hardware, project=project)
            assert reply.lease is None and reply.retry_after_seconds
            assert "large needs a GPU with 40,000 MiB" in reply.reason and words in reply.reason
    assert worker.get_json("/workers")["items"] == []  # it had no job, so nobody knows it
    assert worker.claim_job(hardware=gpu(40_960)).project == "large"
    with database.write() as session:
        create_project(session, write_seed(tmp_path / "small", "small"))
    assert make_worker("w2").claim_job(hardware=HARDWARE).project == "small"


class TestOldWorker:
    @pytest.fixture
    def settings(self, database_url: str) -> CoordinatorSettings:
        return CoordinatorSettings(database_url=database_url, oldest_worker="7.1")

    def test_finishes_and_delivers_but_gets_no_job(
        self, app: FastAPI, http: TestClient, make_worker: Callable[..., MiniWorker], project: str
    ) -> None:
        worker = make_worker()
        worker.measure_root()
        lease = worker.claim_job()
        files = {"train.py": "DEPTH = 9\n"}
        assert worker.propose(lease, files).accepted
        old = {VERSION_HEADER: "7.0.9", PROTOCOL_HEADER: "1"}
        refused = worker.post("/leases", claim_request(), **old)
        assert (refused.status_code, refused.json()["type"]) == (426, "/problems/protocol-unsupported")
        assert refused.json()["versions"]["oldest_worker"] == "7.1"
        # Its own words may be of a form that nobody knows any more.
        assert worker.post("/leases", {"hello": "again"}, **old).status_code == 426
        assert worker.beat(lease, Phase.TRAINING, step=3).status_code == 200
        upload = make_result(lease, worker.files_of(lease), files)
        assert worker.deliver(lease, upload).status_code == 201

    def test_the_versions_are_told(self, http: TestClient) -> None:
        told = http.get("/api/v1/versions").json()
        assert told["oldest_worker"] == "7.1" and told["oldest_protocol"] <= told["protocol"]


def test_a_worker_is_not_asked_again_for_what_it_measures_now(
    project: str, make_worker: Callable[..., MiniWorker], database: Database
) -> None:
    """The job that it prepares meanwhile is another one."""
    author, anchor = make_worker(volunteer="ada"), make_worker(volunteer="bo")
    for worker in (author, anchor):
        worker.measure_root()
    with database.write() as session:
        set_anchor(session, "bo", anchor.name, is_anchor=True, who="maintainer")
    author.experiment("DEPTH = 5\n", metric=3.2)
    make_worker(volunteer="cy").claim_job()  # of whom the anchor does not know whether it ends
    first = anchor.claim_job()
    assert (first.kind, first.base.sha) == (JobKind.REPLICATE, first.root_sha)
    again = anchor.claim_job(holding=[str(first.id)])
    assert (again.kind, again.base.sha) != (first.kind, first.base.sha)
