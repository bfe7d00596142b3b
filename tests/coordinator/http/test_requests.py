"""Ids of requests, the log as JSON, metrics and who may read them."""

import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.events import audit
from coordinator.events.audit import Actor
from coordinator.http.logs import configure_logs
from coordinator.settings import CoordinatorSettings
from tests.support.databases import SqliteFolder
from tests.support.volunteers import MiniWorker

TOKEN = "metrics-token-of-a-test"


@pytest.fixture
def settings(tmp_path: Path, sqlite_folder: SqliteFolder) -> CoordinatorSettings:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return CoordinatorSettings(
        database_url=sqlite_folder.create_migrated(tmp_path), access_log=True, metrics_token_file=tmp_path / "token",
        epoch_check_seconds=1e6, meaning_check_seconds=1e6,
    )  # fmt: skip


class Log:
    """The lines that the log of this process got."""

    def __init__(self) -> None:
        self.text = io.StringIO()

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.getvalue().splitlines()]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    log, root = Log(), logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", log.text)
    with warnings.catch_warnings():
        configure_logs("json")
        yield log
        logging.captureWarnings(False)
    structlog.reset_defaults()
    root.handlers[:], _ = before
    root.setLevel(before[1])


def break_(app: FastAPI, error: Exception) -> None:
    def fail() -> None:
        raise error

    app.add_api_route("/broken", fail)


@pytest.mark.parametrize("given", ["abcdefgh", "0192-ab.CD_9" * 3, "a" * 64])
def test_a_well_formed_id_is_kept(http: TestClient, given: str) -> None:
    assert http.get("/healthz", headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize(
    "given", [b"", b"short", b"a" * 65, b"a b c d e f g", b"abc%0adefg", b"../../etc/passwd", b"-leading-dash",
              b"\xe9" * 9, b"<script>alert(1)</script>", b'abcdefgh"']
)  # fmt: skip
def test_another_id_is_replaced(http: TestClient, given: bytes) -> None:
    answers = [http.get("/healthz", headers={b"X-Request-ID": given}).headers["x-request-id"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", answer) for answer in answers) and answers[0] != answers[1]


def test_lines_of_a_request_carry_its_id_and_the_time_in_utc(app: FastAPI, http: TestClient, log: Log) -> None:
    break_(app, RuntimeError("a bug\nwith two lines"))
    answer = http.get("/broken", headers={"X-Request-ID": "request-of-a-test"})
    assert answer.status_code == 500 and "request-of-a-test" in answer.json()["detail"]
    lines = log.read()
    assert {line["event"] for line in lines} == {"request failed", "request"}
    for line in lines:
        assert line["request_id"] == "request-of-a-test" and line["path"] == "/broken"
        moment = datetime.fromisoformat(line["timestamp"])
        assert moment.utcoffset() == timedelta(0) and abs(datetime.now(UTC) - moment) < timedelta(minutes=1)
    access = next(line for line in lines if line["event"] == "request")
    assert (access["status"], access["method"], access["level"]) == (500, "GET", "info")


def test_a_crash_has_the_headers_of_every_answer(app: FastAPI, http: TestClient) -> None:
    break_(app, RuntimeError("a bug"))
    for accepted in ("*/*", "text/html"):
        headers = http.get("/broken", headers={"Accept": accepted}).headers
        assert headers["x-request-id"] and headers["content-security-policy"] and headers["x-content-type-options"]
    assert len(http.get("/healthz").headers.get_list("content-security-policy")) == 1


def test_what_libraries_say_is_json_too(log: Log) -> None:
    logging.getLogger("a.library").error("from %s", "a library")
    try:
        raise ValueError("inner")
    except ValueError:
        logging.getLogger("sqlalchemy.pool").exception("with a traceback")
    first, second = log.read()
    assert (first["event"], first["logger"], first["level"]) == ("from a library", "a.library", "error")
    assert "ValueError: inner" in second["exception"]


def test_an_address_cannot_write_lines_of_its_own(
    http: TestClient, log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    http.get("/x%0A{%22event%22:%22forged%22}%1b[31m")
    assert [line["event"] for line in log.read()] == ["request"]
    configure_logs("text")
    http.get("/x%0Aforged%1b[31m")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "forged" in said and "\x1b" not in said


def test_a_traceback_tells_no_value_of_a_variable(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    assert log.read() == []
    configure_logs("text")
    token = "swarm-" + "1234567890"
    try:
        raise ValueError("inner")
    except ValueError:
        logging.getLogger("a.library").exception("a bug")
    said = capsys.readouterr().err
    assert 'raise ValueError("inner")' in said and token not in said


def read_metrics(http: TestClient) -> dict[tuple[str, ...], float]:
    """Each sample: its name and the values of its labels in order, and its value."""
    answer = http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {(s.name, *map(str, s.labels.values())): s.value for family in families for s in family.samples}


def test_metrics_tell_of_requests_and_tasks(http: TestClient, worker: MiniWorker) -> None:
    worker.measure_root()
    http.head("/healthz")
    found = read_metrics(http)
    count = "swarm_http_request_seconds_count"
    assert found[count, "POST", "/api/v1/leases", "2xx"] == 1
    assert found[count, "POST", "/api/v1/leases/{lease_id}/result", "2xx"] == 1
    assert found[count, "HEAD", "/healthz", "2xx"] == 1
    assert found["swarm_task_alive", "epochs"] == 1 and found["swarm_task_failures", "live feed"] == 0
    assert found["process_resident_memory_bytes",] > 1e6 and found["swarm_database_connections",] >= 0


def test_metrics_tell_the_time_of_the_last_verified_backup(http: TestClient, database: Database) -> None:
    name = ("swarm_backup_verified_seconds",)
    assert name not in read_metrics(http)
    for _ in range(2):
        with database.write() as session:
            audit.record_backup(session, Actor("timer"), {"runs": 3})
    with database.read() as session:
        entry = audit.find_last_backup(session)
    assert entry is not None and entry.id == 2
    assert read_metrics(http)[name] == pytest.approx(entry.created_at.timestamp())


def test_strangers_cannot_add_series(http: TestClient, database: Database) -> None:
    http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    before = len(read_metrics(http))
    for number in range(40):
        http.get(f"/nothing/{number}")
        http.get(f"/experiments/{number}")
        http.request(f"MAKE{number}", f"/api/v1/experiments/{number}")
        http.get("/static/x", headers={"X-Request-ID": f"another-id-{number}"})
    series = {key[:4] for key in read_metrics(http) if key[0] == "swarm_http_request_seconds_count"}
    assert len(series) < 12 and len(read_metrics(http)) - before < 12 * 16


def test_only_those_with_the_token_read_metrics(
    http: TestClient, worker: MiniWorker, settings: CoordinatorSettings
) -> None:
    for given in ({}, {"Authorization": "Bearer wrong"}, worker._headers, {"Authorization": f"Digest {TOKEN}"}):
        assert http.get("/metrics", headers=given).status_code == 401
    assert http.get("/metrics", auth=("anybody", TOKEN)).status_code == 200
    assert settings.metrics_token_file is not None
    settings.metrics_token_file.write_text("another token of a test")
    assert http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 401


def test_without_the_setting_there_are_no_metrics(tmp_path: Path, settings: CoordinatorSettings) -> None:
    for reading in (True, False):
        changed = settings.model_copy(update={"metrics_token_file": None, "public_reading": reading})
        with TestClient(create_app(changed), raise_server_exceptions=False) as http:
            assert http.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 404
    for content in ("", "short"):
        (tmp_path / "weak").write_text(content)
        with pytest.raises(ValueError, match="at least 16"):
            CoordinatorSettings(metrics_token_file=tmp_path / "weak")
    with pytest.raises(ValueError, match="cannot be read"):
        CoordinatorSettings(metrics_token_file=tmp_path / "none")
