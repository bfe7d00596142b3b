"""Tags and links on every answer of the API."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.projects.service import create_project
from tests.support.seeds import write_seed
from tests.support.swarm_data import write_history


@pytest.fixture
def past(database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        write_history(session, create_project(session, write_seed(tmp_path / "seed"))[0], 6)


def test_what_has_not_changed_is_not_sent_again(past: None, http: TestClient) -> None:
    first = http.get("/api/v1/experiments?project=tiny")
    again = http.get("/api/v1/experiments?project=tiny", headers={"If-None-Match": f'"x", W/{first.headers["ETag"]}'})
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
