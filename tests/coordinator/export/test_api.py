"""Exports over HTTP, read back by other programs' readers, on both engines."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pyarrow import parquet
from sqlalchemy import insert, update

from coordinator.autoresearch.reading import ImportOptions, describe_hardware
from coordinator.autoresearch.service import import_session
from coordinator.db.database import Database
from coordinator.export import service
from coordinator.models import Citation, Volunteer
from coordinator.projects import service as projects
from tests.support.sessions import BRANCH, HARDWARE, write_small_session
from tests.support.swarm_data import HOSTILE_TITLE, EarlierHistory, History, make_proposal

API = "/api/v1/projects/tiny/export"
COUNT = 24


@pytest.fixture
def earlier(request: pytest.FixtureRequest) -> EarlierHistory | None:
    return EarlierHistory(COUNT, others=("other",)) if "past" in request.fixturenames else None


@pytest.fixture
def past(database: Database) -> None:
    """A history of COUNT experiments, another project, and citations."""
    with database.write() as session:
        cited = [{"experiment_id": number, "finding_id": other} for number in range(4, 10) for other in range(1, 4)]
        session.execute(insert(Citation), [*cited, *({"experiment_id": n, "finding_id": 5} for n in range(10, 22))])


@pytest.mark.parametrize("table", ["experiments", "runs", "findings", "citations"])
def test_all_formats_hold_the_same(past: None, http: TestClient, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BATCH_ROWS", 7)  # several batches without many rows
    lines = [json.loads(line) for line in http.get(f"{API}/{table}.jsonl").text.splitlines()]
    cells = list(csv.DictReader(io.StringIO(http.get(f"{API}/{table}.csv").text, newline="")))
    rows = parquet.read_table(io.BytesIO(http.get(f"{API}/{table}.parquet").content)).to_pylist()
    assert len(lines) == len(cells) == len(rows) >= COUNT
    keys = [line["id"] if "id" in line else (line["experiment_id"], line["finding_id"]) for line in lines]
    assert keys == sorted(set(keys))
    for line, cell, row in zip(lines, cells, rows, strict=True):
        assert list(line) == list(cell) == list(row)
        assert {name: "" if value is None else str(value) for name, value in line.items()} == cell
        assert {name: value for name, value in row.items() if not name.endswith("_at")} == {
            name: value for name, value in line.items() if not name.endswith("_at")
        }
        assert "created_at" not in row or row["created_at"].tzinfo is not None
    if table == "experiments":
        assert any(HOSTILE_TITLE[:100] in line["title"] for line in lines)
        listed = http.get("/api/v1/experiments?project=tiny&limit=200").json()["items"]
        assert {row["id"]: row["posterior"] and row["posterior"]["metric_mean"] for row in listed} == {
            line["id"]: line["metric_mean"] for line in lines
        }


def test_an_empty_table_has_its_columns(past: None, http: TestClient) -> None:
    other = API.replace("tiny", "other")
    assert http.get(f"{other}/runs.jsonl").content == b""
    assert http.get(f"{other}/runs.csv").text.startswith("id,uuid,lease_id,project")
    assert "metric" in parquet.read_table(io.BytesIO(http.get(f"{other}/runs.parquet").content)).column_names


def test_results_have_the_original_form(past: None, http: TestClient) -> None:
    lines = http.get(f"{API}/results.tsv").text.splitlines()
    assert lines[0] == "commit\tval_bpb\tmemory_gb\tstatus\tdescription"
    assert lines[1].split("\t")[1:] == ["3.301000", "0.0", "keep", "baseline"]
    assert len(lines) == 2 + COUNT and {line.split("\t")[3] for line in lines[1:]} == {"keep", "discard", "crash"}
    crash = next(line for line in lines if line.split("\t")[3] == "crash")
    assert re.match(r"[0-9a-f]{7}\t0\.000000\t", crash)
    unknown = http.get(f"{API}/results.tsv", params={"hardware_class": "abacus"})
    assert unknown.status_code == 404 and "abacus" in unknown.json()["detail"]


def test_imported_results_come_back_and_new_ones_follow(database: Database, http: TestClient, tmp_path: Path) -> None:
    session = write_small_session(tmp_path / "autoresearch")
    session.results.write_bytes(session.results.read_bytes().rstrip(b"\n"))
    options = ImportOptions(session.folder, BRANCH, session.results, HARDWARE, name="imported")
    with database.read() as read, database.write() as write:
        import_session(read, write, options)
    address = "/api/v1/projects/imported/export/results.tsv"
    before = session.results.read_bytes()
    assert http.get(address).content == before
    with database.write() as write:
        history = History(write, projects.get_project(write, "imported"))
        worker = history.add_worker("w1")
        history.add_experiment(
            worker, history.project.root_sha, 1.9, make_proposal("a new one"), hardware=describe_hardware(options)
        )
    lines = http.get(address).content.removeprefix(before + b"\n").decode().splitlines()
    assert len(lines) == 1 and lines[0].split("\t")[1:] == ["1.900000", "0.0", "keep", "a new one"]


def test_a_finding_is_cited(past: None, app: FastAPI, http: TestClient) -> None:
    entry = http.get("/api/v1/findings/7/bibtex")
    assert entry.headers["content-type"].startswith("application/x-bibtex")
    assert entry.text.startswith("@misc{swarm-tiny-7,\n") and "howpublished" not in entry.text
    with app.state.database.write() as session:
        session.execute(update(Volunteer).values(cited_as="Ada King"))
    assert "{Ada King} and " in http.get("/api/v1/findings/7/bibtex").text and "Ada King" not in entry.text
    app.state.settings = app.state.settings.model_copy(update={"public_url": "https://swarm.example.org/"})
    assert r"\url{https://swarm.example.org/findings/7}" in http.get("/api/v1/findings/7/bibtex").text
    assert (
        r"\& 100 \%\textbraceleft{}x\textbraceright{}" in entry.text
        and "commit " in entry.text
        and "; numbers as of 20" in entry.text
    )
    assert http.get("/api/v1/findings/999/bibtex").status_code == 404


def test_unknown_names_are_refused(past: None, http: TestClient) -> None:
    assert http.get("/api/v1/projects/nope/export/runs.csv").status_code == 404
    assert http.get(f"{API}/runs.xml").status_code == 422
    assert http.get(f"{API}/tokens.csv").status_code == 422
