"""Tags, links and chosen fields on every answer of the API."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from coordinator.db.database import Database
from coordinator.http.middleware import FieldsUnknownError, select_fields
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


def test_only_the_fields_that_are_asked_for(past: None, http: TestClient) -> None:
    page = http.get("/api/v1/experiments?project=tiny&limit=2&fields=id,posterior.effect_mean,posterior.runs")
    assert page.headers["Content-Type"] == "application/vnd.swarm.sparse+json"
    assert "next" in page.links and "fields=id" in page.links["next"]["url"]
    for item in page.json()["items"]:
        assert set(item) == {"id", "posterior"}
        assert item["posterior"] is None or set(item["posterior"]) == {"effect_mean", "runs"}
    assert http.get("/api/v1/projects/tiny?fields=root_sha").json().keys() == {"root_sha"}
    wrong = http.get("/api/v1/experiments?project=tiny&fields=id,sise")
    assert wrong.status_code == 422 and wrong.json()["type"] == "/problems/fields-unknown"
    assert "sise is not among them: axis," in wrong.json()["detail"]
    assert http.get("/problems/fields-unknown").status_code == 200


def test_fields_of_an_empty_page_are_not_judged() -> None:
    assert select_fields(b'{"items":[],"next_cursor":null}', ["x"]) == b'{"items":[],"next_cursor":null}'
    with pytest.raises(FieldsUnknownError):
        select_fields(b'{"a":{"b":1}}', ["a.c"])
    assert select_fields(b'{"a":{"b":1,"c":2},"d":3}', ["a.b", "a.c"]) == b'{"a":{"b":1,"c":2}}'
