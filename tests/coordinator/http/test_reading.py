"""HEAD wherever GET works, tags of pages and documents, and compression."""

import time
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.projects.service import create_project
from tests.support.databases import ON_ONE_ENGINE
from tests.support.seeds import write_seed
from tests.support.servers import serve
from tests.support.swarm_data import EarlierHistory

WHOLE = [
    "/", "/projects/tiny", "/projects/tiny.json", "/experiments/1", "/api/v1/projects", "/api/v1/runs?project=tiny",
    "/docs", "/openapi.json", "/problems", "/static/swarm.css", "/healthz", "/readyz", "/robots.txt", "/nothing",
    "/api/v1/experiments/999", "/experiments/x",
]  # fmt: skip
STREAMS = [
    "/api/v1/events", "/git/tiny.bundle", "/git/tiny.git/info/refs?service=git-upload-pack",
    "/api/v1/projects/tiny/export/runs.csv",
]  # fmt: skip
CHANGING = {"date", "x-request-id"}


@pytest.fixture
def earlier() -> EarlierHistory:
    return EarlierHistory(6)


@ON_ONE_ENGINE
def test_head_answers_as_get_without_the_body(http: TestClient) -> None:
    for address in (*WHOLE, *STREAMS[1:]):
        got, head = http.get(address), http.head(address)
        assert head.status_code == got.status_code and head.content == b"", address
        kept = {name: value for name, value in got.headers.items() if name not in CHANGING}
        assert kept == {name: value for name, value in head.headers.items() if name not in CHANGING}, address
    assert http.head("/api/v1/leases/1/heartbeat").status_code == 405


@ON_ONE_ENGINE
def test_head_of_a_stream_ends_and_leaves_nothing_behind(app: FastAPI) -> None:
    with serve(app) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        database = app.state.database
        for _ in range(3):
            for address in STREAMS:
                head = http.head(address)
                assert head.status_code == 200 and head.content == b"", address
        assert http.head("/api/v1/events").headers["content-type"].startswith("text/event-stream")
        deadline = time.monotonic() + 60
        while (left := (database.count_held(), app.state.feed.count_listeners())) != (0, 0):
            assert time.monotonic() < deadline, f"connections and listeners that are still there: {left}"
            time.sleep(0.05)
        assert http.get("/healthz").text == "ok\n", "the connection goes on"


@ON_ONE_ENGINE
@pytest.mark.parametrize("address", [*WHOLE[:9], "/api/v1/findings?project=tiny", "/findings/1", "/findings/1.json"])
def test_what_a_client_has_already_is_not_sent_again(http: TestClient, address: str) -> None:
    first = http.get(address)
    tag = first.headers["etag"]
    for given in (tag, f'"other", {tag}', tag.removeprefix("W/")):
        again = http.get(address, headers={"If-None-Match": given})
        assert again.status_code == 304 and again.content == b"" and again.headers["etag"] == tag
        assert "content-security-policy" in again.headers and again.headers["cache-control"]
    assert http.get(address, headers={"If-None-Match": '"other"'}).status_code == 200
    assert http.head(address, headers={"If-None-Match": tag}).status_code == 304


@ON_ONE_ENGINE
def test_a_page_that_changed_is_sent(http: TestClient, database: Database, tmp_path: Path) -> None:
    tag = http.get("/projects/tiny").headers["etag"]
    with database.write() as session:
        create_project(session, write_seed(tmp_path / "other", "other"))
    changed = http.get("/projects/tiny", headers={"If-None-Match": tag})
    assert changed.status_code == 200 and "/projects/other" in changed.text


@ON_ONE_ENGINE
def test_errors_have_no_tag(http: TestClient) -> None:
    for address in WHOLE[-3:]:
        for accepted in ("text/html", "*/*"):
            assert "etag" not in http.get(address, headers={"Accept": accepted}).headers


@ON_ONE_ENGINE
def test_large_answers_are_compressed_for_those_that_understand_it(http: TestClient) -> None:
    for address in ("/", "/api/v1/runs?project=tiny", "/static/swarm.css", "/api/v1/projects/tiny/export/runs.csv"):
        plain = http.get(address, headers={"Accept-Encoding": "identity"})
        packed = http.get(address, headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in plain.headers and packed.headers["content-encoding"] == "gzip"
        assert plain.content == packed.content and plain.headers.get("etag") == packed.headers.get("etag")
        if "content-length" in plain.headers:
            assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2
        assert "Accept-Encoding" in packed.headers["vary"]
    for address in ("/healthz", "/git/tiny.bundle", "/api/v1/projects/tiny/export/runs.parquet"):
        answer = http.get(address, headers={"Accept-Encoding": "gzip"})
        assert answer.status_code == 200 and "content-encoding" not in answer.headers, address


@ON_ONE_ENGINE
def test_events_are_not_held_back_by_compression(app: FastAPI) -> None:
    with serve(app) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        headers = {"Accept-Encoding": "gzip"}
        with http.stream("GET", "/api/v1/events", headers=headers) as stream:
            assert stream.status_code == 200 and "content-encoding" not in stream.headers
