"""worker/api/client.py"""

import json
import socket
from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from shared.leases import Heartbeat, Phase, ReleaseRequest, ResultReply, ResultUpload
from shared.protocol import PROBLEM_MEDIA_TYPE, PROTOCOL_HEADER, PROTOCOL_VERSION, VERSION_HEADER, now
from tests.support.messages import claim_request, make_run
from tests.worker.agents.tasks import sha_of
from worker.api.client import (
    AccountStopped,
    ClientError,
    CoordinatorClient,
    Outdated,
    Rejected,
    Unauthorized,
    UnexpectedReply,
    Unreachable,
    program_version,
)

Handler = Callable[[httpx.Request], httpx.Response]


def client_of(handler: Handler) -> CoordinatorClient:
    return CoordinatorClient("http://swarm.test/", SecretStr("t0ken"), httpx.MockTransport(handler))


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    body = {"type": f"/problems/{code}", "title": "No", "status": status, "detail": "Because."}
    return httpx.Response(
        status, json=body, headers={"Content-Type": f"{PROBLEM_MEDIA_TYPE}; charset=utf-8", **headers}
    )


def test_a_claim_carries_token_and_version() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"lease": None, "reason": "No project.", "retry_after_seconds": 5})

    reply = client_of(answer).claim(claim_request())
    assert (reply.reason, reply.retry_after_seconds) == ("No project.", 5.0)
    assert str(seen[0].url) == "http://swarm.test/api/v1/leases"
    assert seen[0].headers["Authorization"] == "Bearer t0ken"
    assert seen[0].headers["User-Agent"].startswith("research-swarm-worker/")
    assert (seen[0].headers[PROTOCOL_HEADER], seen[0].headers[VERSION_HEADER]) == (
        str(PROTOCOL_VERSION),
        program_version(),
    )
    assert json.loads(seen[0].content)["worker"] == "w1"


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (
            {"protocol": PROTOCOL_VERSION, "oldest_protocol": 3, "oldest_worker": "0.4"},
            "gives jobs to protocol 3 and version 0.4, or",
        ),
        ({"protocol": 0, "oldest_protocol": 0, "oldest_worker": "0"}, "only 0: ask its maintainers to update it"),
        (None, "does not fit http://swarm.test: Because."),
    ],
)
def test_versions_that_do_not_fit_are_told_with_what_to_do(theirs: dict[str, Any] | None, words: str) -> None:
    body = {"type": "/problems/protocol-unsupported", "title": "No", "status": 426, "detail": "Because."}
    if theirs is not None:
        body["versions"] = {"version": "0.5", **theirs}
    answer = httpx.Response(426, json=body, headers={"Content-Type": PROBLEM_MEDIA_TYPE})
    with pytest.raises(Outdated) as refusal:
        client_of(lambda _: answer).claim(claim_request())
    assert f"this worker is of version {program_version()} and speaks protocol {PROTOCOL_VERSION}" in str(refusal.value)
    assert words in str(refusal.value)
    assert ("pip install --upgrade" in str(refusal.value)) == ("gives jobs" in words)


@pytest.mark.parametrize(
    ("response", "error", "words"),
    [
        (problem(401, "token-invalid"), Unauthorized, "Because"),
        (problem(403, "account-pending"), AccountStopped, "Because"),
        (problem(403, "not-allowed"), Unauthorized, "Because"),
        (problem(403, "lease-foreign"), Rejected, "lease-foreign"),
        (problem(409, "result-conflict"), Rejected, "result-conflict"),
        (problem(426, "protocol-unsupported"), Outdated, "Because"),
        (problem(500, "internal"), Unreachable, "Because"),
        (httpx.Response(502, text="<html>Bad gateway"), Unreachable, "502"),
        (problem(429, "too-many"), Unreachable, "Because"),
        (httpx.Response(404, text="<html>Not here"), UnexpectedReply, "is it a coordinator"),
        (httpx.Response(401, text="log in to the hotel's network"), UnexpectedReply, "is it a coordinator"),
        (
            httpx.Response(301, headers={"Location": "https://swarm.test/api/v1/leases"}),
            UnexpectedReply,
            "http://swarm.test redirects to https://swarm.test: if that",
        ),
        (httpx.Response(302), UnexpectedReply, "302"),
        (httpx.Response(400, text="HTTP request to an HTTPS server"), UnexpectedReply, "http:// and https://"),
        (httpx.Response(200, text="<html>Welcome to the hotel"), UnexpectedReply, "no ClaimReply"),
        (httpx.Response(200, json={"lease": 7, "surprise": 1}), UnexpectedReply, "no ClaimReply"),
        (
            httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip")),
            UnexpectedReply,
            "broken",
        ),
        (httpx.Response(422, content=b"{", headers={"Content-Type": PROBLEM_MEDIA_TYPE}), UnexpectedReply, "422"),
    ],
)
def test_each_answer_has_its_error(response: httpx.Response, error: type[ClientError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        client_of(lambda _: response).claim(claim_request())
    assert type(caught.value) is error
    assert "t0ken" not in str(caught.value)


def test_a_field_that_only_a_newer_coordinator_sends_is_ignored() -> None:
    response = httpx.Response(200, json={"lease": None, "retry_after_seconds": 30, "surprise": 1})
    assert client_of(lambda _: response).claim(claim_request()).lease is None


def test_nobody_listens() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Unreachable, match=url):
            CoordinatorClient(url, SecretStr("x")).claim(claim_request())


def test_a_result_carries_its_key_and_counts_only_when_it_is_confirmed_by_name() -> None:
    upload = ResultUpload(run=make_run(sha_of("a")))
    keys: list[str] = []
    confirmed = upload.run.id

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        reply = ResultReply(run_id=1, run_uuid=confirmed, experiment_id=None, posterior=None, url="/runs/1")
        return httpx.Response(201, text=reply.model_dump_json())

    assert client_of(answer).upload_result(uuid4(), upload).url == "/runs/1"
    assert keys == [str(upload.run.id)]
    confirmed = uuid4()
    with pytest.raises(UnexpectedReply, match="not"):
        client_of(answer).upload_result(uuid4(), upload)


def test_files_of_another_commit_are_not_taken() -> None:
    body = {"sha": sha_of("b"), "parent_sha": None, "files": {}}
    with pytest.raises(UnexpectedReply, match=sha_of("b")):
        client_of(lambda _: httpx.Response(200, json=body)).fetch_files("tiny", sha_of("a"))


def test_heartbeat_and_release_do_not_wait_long() -> None:
    timeouts: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        timeouts.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, json={"state": "running", "expires_at": "2026-11-23T07:00:00Z"})

    client = client_of(answer)
    client.heartbeat(uuid4(), Heartbeat(token="x", phase=Phase.TRAINING))
    client.release(uuid4(), ReleaseRequest(token="x", reason="tired"))
    assert timeouts == [5.0, 5.0]


def dated(**headers: str) -> httpx.Response:
    return httpx.Response(503, headers={"Date": "Mon, 01 Jun 2026 12:00:00 GMT", **headers})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("999999", 3600.0),
        ("Mon, 01 Jun 2026 12:02:00 GMT", 120.0),  # by the server's clock, whatever ours says
        ("Mon, 01 Jun 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_a_busy_coordinator_says_when_to_come_again(text: str, seconds: float | None) -> None:
    with pytest.raises(Unreachable) as refusal:
        client_of(lambda _: dated(**{"Retry-After": text})).claim(claim_request())
    assert refusal.value.retry_after_seconds == seconds


def test_a_clock_that_is_wrong_is_known_by_any_answer() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        date = format_datetime(now() + timedelta(hours=3), usegmt=True)
        return httpx.Response(200, json={"lease": None}, headers={"Date": date})

    client = client_of(answer)
    client.claim(claim_request())
    assert client.clock_error_seconds == pytest.approx(-3 * 3600, abs=60)


def test_a_certificate_out_of_its_time_hints_at_the_clock() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("certificate verify failed: certificate is not yet valid (_ssl.c:1000)")

    with pytest.raises(Unreachable, match="is this machine's clock right"):
        client_of(refuse).claim(claim_request())


def test_https_of_a_coordinator_that_speaks_http_names_the_address() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")

    with pytest.raises(Unreachable, match="does not speak HTTPS; does its address begin with http://") as caught:
        client_of(refuse).claim(claim_request())
    assert "_ssl" not in str(caught.value)


def test_a_token_that_was_changed_meanwhile_is_read_again() -> None:
    tokens, seen = iter(["second", "second"]), list[str]()

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"].removeprefix("Bearer "))
        return problem(401, "unauthorized") if seen[-1] == "first" else httpx.Response(200, json={"lease": None})

    transport = httpx.MockTransport(answer)
    client = CoordinatorClient("http://swarm.test", SecretStr("first"), transport, lambda: SecretStr(next(tokens)))
    client.claim(claim_request())
    client.claim(claim_request())
    assert seen == ["first", "second", "second"]


def test_a_token_that_is_refused_still_is_no_loop() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return problem(401, "unauthorized")

    transport = httpx.MockTransport(answer)
    for token in ("same", "other"):
        client = CoordinatorClient("http://swarm.test", SecretStr("same"), transport, lambda t=token: SecretStr(t))  # type: ignore[misc]
        with pytest.raises(Unauthorized):
            client.claim(claim_request())
    assert len(seen) == 1 + 2
