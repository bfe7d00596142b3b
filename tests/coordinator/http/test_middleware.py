"""Headers of every answer, its tags and links, and a swarm that only those with a token may read."""

from base64 import b64encode
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from coordinator.accounts.service import create_token
from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.http.middleware import read_token
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from tests.support.databases import SqliteFolder
from tests.support.seeds import write_seed
from tests.support.swarm_data import write_history

CLOSED = ["/", "/projects/tiny", "/api/v1/projects", "/api/v1/events", "/git/tiny.bundle", "/docs",
          "/api/v1/projects/tiny/export/runs.csv"]  # fmt: skip


@pytest.fixture
def past(database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        write_history(session, create_project(session, write_seed(tmp_path / "seed"))[0], 6)


def test_what_has_not_changed_is_not_sent_again(past: None, http: TestClient) -> None:
    first = http.get("/api/v1/experiments?project=tiny")
    again = http.get("/api/v1/experiments?project=tiny", headers={"If-None-Match": f'"x", {first.headers["ETag"]}'})
    assert again.status_code == 304 and again.content == b"" and again.headers["ETag"] == first.headers["ETag"]
    other = http.get("/api/v1/experiments?project=tiny&limit=2")
    assert other.headers["ETag"] != first.headers["ETag"]
    assert "ETag" not in http.get("/api/v1/experiments?project=nope").headers
    streamed = http.get("/api/v1/projects/tiny/export/runs.jsonl")
    assert streamed.status_code == 200 and "ETag" not in streamed.headers, "a stream is not held back to be whole"


def test_pages_are_linked_until_they_end(past: None, http: TestClient) -> None:
    address: str | None = "/api/v1/runs?project=tiny&limit=4"
    ids: list[int] = []
    while address is not None:
        page = http.get(address)
        ids += [row["id"] for row in page.json()["items"]]
        cursor = page.json()["next_cursor"]
        assert (cursor is None) == ("Link" not in page.headers)
        address = page.links["next"]["url"] if cursor else None
    assert len(ids) >= 9 and ids == sorted(set(ids), reverse=True)


def test_only_our_own_scripts_run(http: TestClient, project: str) -> None:
    for path in ("/", "/docs", "/api/v1/projects", "/nothing"):
        headers = http.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


def test_everything_but_the_way_in_asks_for_a_token(tmp_path: Path, sqlite_folder: SqliteFolder) -> None:
    settings = CoordinatorSettings(database_url=sqlite_folder.create_migrated(tmp_path), public_reading=False)
    app = create_app(settings)
    with TestClient(app, raise_server_exceptions=False) as http:
        with app.state.database.write() as session:
            create_project(session, write_seed(tmp_path / "seed"))
            token = create_token(session, "ada", "test")
        for address in CLOSED:
            refused = http.get(address)
            assert refused.status_code == 401, address
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.headers["www-authenticate"].startswith("Basic")
        assert http.get("/api/v1/projects", headers={"Authorization": "Bearer swt_wrong"}).status_code == 401
        basic = b64encode(f"anybody:{token}".encode()).decode()
        for allowed in (f"Bearer {token}", f"Basic {basic}"):
            for address in (name for name in CLOSED if name != "/api/v1/events"):
                assert http.get(address, headers={"Authorization": allowed}).status_code == 200, address
        assert http.get("/api/v1/versions").status_code == 200
        assert http.post("/api/v1/accounts", json={"name": "grace"}).status_code == 201


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer  ", "Basic %%%", "Basic /w==", "Digest x", "Basic YWRhOg=="])
def test_what_is_no_token(header: str) -> None:
    assert read_token(header) is None
