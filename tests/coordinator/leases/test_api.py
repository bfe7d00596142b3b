"""Workers' requests over HTTP: routes, forms, bounds, headers and errors."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore
from typing import NoReturn
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from psycopg.errors import DeadlockDetected
from sqlalchemy.exc import OperationalError

from coordinator.app import create_app
from coordinator.leases import service
from coordinator.leases.errors import LeaseUnknownError
from coordinator.settings import CoordinatorSettings
from shared.leases import ResultUpload
from tests.support.databases import ON_ONE_ENGINE
from tests.support.messages import claim_request, make_run
from tests.support.volunteers import MiniWorker

pytestmark = ON_ONE_ENGINE  # what is asked needs no database

JSON = {"Content-Type": "application/json"}
BEAT = {"token": "x", "phase": "training"}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "body"),
        (b"not json", "body.0"),
        (b"[]", "body"),
        (b'{"token": "x"}', "body.phase"),
        (b'{"token": "x", "phase": "training", "surprise": 1}', "body.surprise"),
        (b'{"token": "x", "phase": "training", "loss": NaN}', "body.loss"),
    ],
)
def test_bodies(http: TestClient, body: bytes, where: str) -> None:
    answer = http.post(f"/api/v1/leases/{uuid4()}/heartbeat", content=body, headers=JSON)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/request-invalid"
    assert [mistake["where"] for mistake in answer.json()["errors"]] == [where]


def test_a_body_that_is_no_text(http: TestClient) -> None:
    answer = http.post(f"/api/v1/leases/{uuid4()}/heartbeat", content=b'{"token": "\xff"}', headers=JSON)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


def test_names_and_keys(http: TestClient) -> None:
    answer = http.post("/api/v1/leases/no-uuid/heartbeat", json=BEAT)
    assert (answer.status_code, answer.json()["errors"][0]["where"]) == (422, "path.lease_id")


def test_tokens(http: TestClient) -> None:
    address = f"/api/v1/leases/{uuid4()}/heartbeat"
    for headers in ({}, {"Authorization": "Basic swt_x"}, {"Authorization": "Bearer "}, {"Authorization": "Bearer x"}):
        answer = http.post(address, json=BEAT, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.usefixtures("project")
def test_the_key_of_a_result_is_needed(make_worker: Callable[..., MiniWorker]) -> None:
    worker = make_worker()
    lease = worker.claim_job()
    upload = ResultUpload(run=make_run(lease.base.sha, 3.3))
    without = worker.post(f"/leases/{lease.id}/result", upload)
    assert (without.status_code, without.json()["errors"][0]["where"]) == (422, "header.idempotency-key")
    other = worker.post(f"/leases/{lease.id}/result", upload, **{"Idempotency-Key": str(uuid4())})
    assert (other.status_code, other.json()["type"]) == (409, "/problems/result-conflict")
    assert worker.deliver(lease, upload).status_code == 201


def test_methods(http: TestClient) -> None:
    answer = http.get(f"/api/v1/leases/{uuid4()}/heartbeat")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
    assert http.get("/api/v1/leases", params={"project": "nothing"}).status_code == 404


def test_the_reference_describes_them(http: TestClient) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    operation = paths["/api/v1/leases/{lease_id}/result"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/ResultUpload")
    assert {parameter["name"] for parameter in operation["parameters"]} == {"lease_id", "idempotency-key"}
    assert {"post", "get"} == set(paths["/api/v1/leases"])


def heartbeat_address() -> str:
    return f"/api/v1/leases/{uuid4()}/heartbeat"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/v1/leases", 401),
        ("POST", "/api/v1/leases/x/heartbeat", 422),
        ("POST", "/api/v1/leases/x/dance", 404),
        ("POST", "/api/v1/leases/x", 405),  # that of a job that a worker gave itself
        ("POST", "/api/v1/leases/x/heartbeat/y", 404),
        ("POST", "/api/v1/leaseshop", 404),
        ("PATCH", "/api/v1/leases", 405),
        ("GET", "/api/v1/leases/x/heartbeat", 405),
    ],
)
def test_where_requests_go(http: TestClient, method: str, path: str, status: int) -> None:
    body = claim_request().model_dump(mode="json") if path == "/api/v1/leases" else BEAT
    answer = http.request(method, path, json=body, follow_redirects=False)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.fixture
def small(settings: CoordinatorSettings) -> Iterator[TestClient]:
    """A client of a coordinator that takes 1000 bytes."""
    with TestClient(create_app(settings.model_copy(update={"max_body_bytes": 1000}))) as client:
        yield client


def send_in_parts(count: int) -> Iterator[bytes]:
    """A body that does not say beforehand how long it is."""
    for _ in range(count):
        yield b" " * 100


def test_bodies_are_bounded(small: TestClient) -> None:
    announced = small.post(heartbeat_address(), content=b" " * 1001)
    in_parts = small.post(heartbeat_address(), content=send_in_parts(11))
    for answer in (announced, in_parts):
        assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")
    assert small.post(heartbeat_address(), content=send_in_parts(10)).status_code == 422


@pytest.mark.usefixtures("project")
def test_a_job_has_the_headers_of_every_answer(make_worker: Callable[..., MiniWorker], http: TestClient) -> None:
    answers = make_worker().post("/leases", claim_request()), http.get("/api/v1/versions")
    assert [answer.status_code for answer in answers] == [200, 200]
    names = ("content-security-policy", "referrer-policy", "x-content-type-options")
    job, other = ([answer.headers[name] for name in names] for answer in answers)
    assert job == other


def test_a_mistake_of_ours_is_told_as_one(app: FastAPI, http: TestClient) -> None:
    del app.state.jobs
    answer = http.post(heartbeat_address(), json=BEAT)
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")


def test_slow_pages_delay_no_request_of_a_worker(settings: CoordinatorSettings) -> None:
    app, has_begun, is_done = create_app(settings), Semaphore(0), Event()

    @app.get("/slow")
    def _wait() -> None:
        has_begun.release()
        is_done.wait(60)

    address = f"/api/v1/leases/{uuid4()}"
    with TestClient(app) as http, ThreadPoolExecutor(60) as threads:
        pages = [threads.submit(http.get, "/slow") for _ in range(40)]  # all threads that FastAPI has
        assert all(has_begun.acquire(timeout=30) for _ in pages)
        release = threads.submit(http.post, f"{address}/release", json={"token": "x", "reason": "r"})
        heartbeat = threads.submit(http.post, f"{address}/heartbeat", json=BEAT)
        try:
            assert (release.result(30).status_code, heartbeat.result(30).status_code) == (401, 401)
        finally:
            is_done.set()
        assert {page.result(30).status_code for page in pages} == {200}


def test_what_takes_long_of_a_job_delays_no_heartbeat(
    settings: CoordinatorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_begun, is_done = Semaphore(0), Event()

    def wait(*_: object) -> NoReturn:
        has_begun.release()
        is_done.wait(60)
        raise LeaseUnknownError("There is no such lease.")

    monkeypatch.setattr(service, "release", wait)
    address = f"/api/v1/leases/{uuid4()}"
    with TestClient(create_app(settings)) as http, ThreadPoolExecutor(30) as threads:
        waiting = [
            threads.submit(http.post, f"{address}/release", json={"token": "x", "reason": "r"}) for _ in range(20)
        ]
        assert has_begun.acquire(timeout=30)
        heartbeat = threads.submit(http.post, f"{address}/heartbeat", json=BEAT)
        try:
            assert heartbeat.result(30).status_code == 401
        finally:
            is_done.set()
        assert {answer.result(30).status_code for answer in waiting} == {404}


def test_a_request_that_the_database_gave_up_for_another_is_carried_out_again(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [OperationalError("update", {}, DeadlockDetected()), LeaseUnknownError("There is no such lease.")]

    def fail(*_: object) -> NoReturn:
        raise errors.pop(0)

    monkeypatch.setattr(service, "release", fail)
    answer = http.post(f"/api/v1/leases/{uuid4()}/release", json={"token": "x", "reason": "r"})
    assert (answer.status_code, errors) == (404, [])
