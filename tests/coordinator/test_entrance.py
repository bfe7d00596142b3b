"""The door of jobs leads where FastAPI's way leads, and errors are answered alike."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.app import create_app
from coordinator.settings import Settings
from tests.support.messages import claim_request
from tests.support.volunteers import MiniWorker

BEAT = {"token": "x", "phase": "training"}


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
def small(settings: Settings) -> Iterator[TestClient]:
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
    del app.state.held_beats
    answer = http.post(heartbeat_address(), json=BEAT)
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")
