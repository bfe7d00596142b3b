"""Requests that are not of the form that the API describes, on the routes that workers use all day."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from fastapi import Response
from fastapi.testclient import TestClient

from coordinator.leases.routing import JobRoute
from shared.leases import ResultUpload
from tests.support.messages import make_run
from tests.support.volunteers import MiniWorker

BEAT = {"token": "x", "phase": "training"}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "body"),
        (b"not json", "body"),
        (b"[]", "body"),
        (b'{"token": "x"}', "body.phase"),
        (b'{"token": "x", "phase": "training", "surprise": 1}', "body.surprise"),
        (b'{"token": "x", "phase": "training", "loss": NaN}', "body.loss"),
        (b'{"token": "\xff", "phase": "training"}', "body"),
    ],
)
def test_bodies(http: TestClient, body: bytes, where: str) -> None:
    answer = http.post(f"/api/v1/leases/{uuid4()}/heartbeat", content=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/request-invalid"
    assert [mistake["where"] for mistake in answer.json()["errors"]] == [where]


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
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert http.get("/api/v1/leases", params={"project": "nothing"}).status_code == 404


def test_the_reference_describes_them(http: TestClient) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    operation = paths["/api/v1/leases/{lease_id}/result"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/ResultUpload")
    assert {parameter["name"] for parameter in operation["parameters"]} == {"lease_id", "idempotency-key"}
    assert {"post", "get"} == set(paths["/api/v1/leases"])


def test_a_parameter_that_no_reader_knows_is_an_error() -> None:
    def handle(surprise: int) -> Response:
        return Response(str(surprise))

    with pytest.raises(KeyError, match="surprise"):
        JobRoute("/surprise", handle, methods=["POST"])
