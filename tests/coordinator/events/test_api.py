"""The feed over HTTP, from a real server."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.events import service
from coordinator.settings import CoordinatorSettings
from shared.events import EventKind, EventView
from tests.support.databases import SqliteFolder
from tests.support.servers import RunningServer, serve

PATIENCE_SECONDS = 120


@pytest.fixture
def fast_app(settings: CoordinatorSettings) -> FastAPI:
    return create_app(settings.model_copy(update={"event_poll_seconds": 0.05}))


@pytest.fixture
def server(fast_app: FastAPI) -> Iterator[RunningServer]:
    with serve(fast_app) as server:
        yield server


@pytest.fixture
def database(fast_app: FastAPI, server: RunningServer) -> Database:
    database = fast_app.state.database
    assert isinstance(database, Database)
    return database


def record(database: Database, kind: EventKind = EventKind.RUN_STORED) -> None:
    with database.write() as session:
        service.record(session, kind, None, run=1)


def read_events(url: str, count: int, **headers: str) -> list[dict[str, str]]:
    """The first `count` events of a stream, each as its fields."""
    events: list[dict[str, str]] = [{}]
    with httpx.stream("GET", url, headers=headers, timeout=PATIENCE_SECONDS) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line:
                field, _, value = line.partition(": ")
                events[-1][field] = value
            elif "id" in events[-1]:
                if len(events) == count:
                    break
                events.append({})
    return events


def test_an_event_carries_its_id_its_kind_and_itself(server: RunningServer, database: Database) -> None:
    record(database)
    record(database, EventKind.LEASE_ENDED)
    first, second = read_events(f"{server.url}/api/v1/events?since=0", 2)
    assert (first["id"], first["event"]) == ("1", "run_stored")
    assert (second["id"], second["event"]) == ("2", "lease_ended")
    event = EventView.model_validate(json.loads(first["data"]))
    assert (event.id, event.kind, event.data) == (1, EventKind.RUN_STORED, {"run": 1})


def test_a_reader_that_comes_back_misses_nothing_and_gets_nothing_twice(
    server: RunningServer, database: Database
) -> None:
    address = f"{server.url}/api/v1/events?since=0"
    for _ in range(3):
        record(database)
    seen = [event["id"] for event in read_events(address, 2)]  # and then its connection is lost
    record(database)
    while len(seen) < 4:
        seen += [event["id"] for event in read_events(address, 1, **{"Last-Event-ID": seen[-1]})]
    assert seen == ["1", "2", "3", "4"]


def test_a_cursor_that_is_none_is_refused(server: RunningServer) -> None:
    response = httpx.get(f"{server.url}/api/v1/events?since=-1", timeout=60)
    assert response.status_code == 422
    assert response.json()["type"] == "/problems/request-invalid"


def test_a_closed_feed_says_when_to_come_back(fast_app: FastAPI) -> None:
    with TestClient(fast_app) as client:
        fast_app.state.feed.close()
        response = client.get("/api/v1/events")
    assert response.status_code == 503
    assert response.json()["type"] == "/problems/feed-closed"
    assert response.headers["retry-after"] == "5"


def test_ctrl_c_ends_open_streams_promptly(sqlite_folder: SqliteFolder, tmp_path: Path) -> None:
    database = Database(sqlite_folder.create_migrated(tmp_path))
    record(database)
    database.close()
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("swarm-coordinator")), "serve", "--port", "0"],
        env={**os.environ, "SWARM_DATABASE_URL": str(database.url)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = next(word for line in process.stdout for word in line.split() if word.startswith("http"))
        with httpx.stream("GET", f"{address}/api/v1/events?since=0", timeout=PATIENCE_SECONDS) as response:
            lines = response.iter_lines()
            assert next(lines) == "event: run_stored"
            process.send_signal(signal.SIGINT)
            assert list(lines)[-1] == "", "the stream ends as streams end, and is not torn"
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert "Traceback" not in errors and "Cancel" not in errors
    finally:
        process.kill()
        process.communicate()
