"""Answers for monitoring, while all is well and while it is not."""

import asyncio
from pathlib import Path
from threading import Event

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.http import health
from coordinator.settings import CoordinatorSettings
from tests.support.databases import SqliteFolder


@pytest.fixture(autouse=True)
def always_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FRESH_SECONDS", 0.0)


def test_a_healthy_replica(http: TestClient) -> None:
    assert http.get("/healthz").text == "ok\n"
    ready = http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "faults": {}})
    assert ready.headers["cache-control"] == "no-store"


def test_a_schema_of_another_program_is_not_ready(http: TestClient, database: Database) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    ready = http.get("/readyz")
    assert ready.status_code == 503 and list(ready.json()["faults"]) == ["schema"]
    assert http.get("/healthz").status_code == 200


def test_a_database_that_is_away_is_not_ready_and_comes_back(tmp_path: Path, sqlite_folder: SqliteFolder) -> None:
    url = sqlite_folder.create_migrated(tmp_path)
    app = create_app(CoordinatorSettings(database_url=url))
    with TestClient(app, raise_server_exceptions=False) as http:
        database: Database = app.state.database
        path, away = Path(str(database.url.database)), tmp_path / "away"
        database.engine.dispose()
        path.rename(away)
        path.mkdir()
        ready = http.get("/readyz")
        assert ready.status_code == 503 and list(ready.json()["faults"]) == ["database"]
        assert str(tmp_path) not in ready.text, "the answer is public"
        assert http.get("/healthz").status_code == 200, "a restart would not bring the database back"
        path.rmdir()
        away.rename(path)
        assert http.get("/readyz").status_code == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_database_that_does_not_answer_is_asked_once(
    http: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = [], Event()

    def hang() -> bool:
        asked.append(1)
        return answer.wait(60)

    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(database, "is_current", hang)
    for _ in range(4):
        assert "no answer" in http.get("/readyz").json()["faults"]["database"]
    assert len(asked) == 1, "questions do not pile up in threads"
    answer.set()
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 20.0)
    assert http.get("/readyz").status_code == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_task_that_ended_is_not_ready_but_one_that_fails_is(app: FastAPI, http: TestClient) -> None:
    tasks = app.state.background

    def fail() -> None:
        raise RuntimeError("an endpoint is away")

    async def end() -> None:
        raise asyncio.CancelledError

    async def run(work: object) -> None:
        async with tasks.repeat("extra", 0.001, work):
            while not (tasks.list_health()[-1].failures or not tasks.list_health()[-1].is_alive):
                await asyncio.sleep(0.001)

    asyncio.run(run(fail))
    assert http.get("/readyz").status_code == 200
    asyncio.run(run(end))
    assert http.get("/readyz").json()["faults"] == {"tasks": "ended: extra"}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_crawlers_read_pages_only(http: TestClient) -> None:
    rules = http.get("/robots.txt")
    assert rules.headers["content-type"].startswith("text/plain")
    assert rules.text.splitlines() == [
        "User-agent: *",
        "Disallow: /api/",
        "Disallow: /git/",
        "Disallow: /live",
        "Disallow: /experiments/*/live",
        "Disallow: /projects/*/live",
        "Disallow: /projects/*/plot",
    ]
