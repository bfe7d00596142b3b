"""The typed client."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from coordinator.accounts.service import create_token
from coordinator.app import create_app
from coordinator.settings import CoordinatorSettings
from swarm import Client, CoordinatorError
from tests.support.databases import SqliteFolder
from tests.support.servers import serve
from tests.support.tiny_project import serve_folder


def test_it_returns_typed_models(url: str) -> None:
    with Client(url) as client:
        newest = client.list_experiments("tiny")[0]
        detail = client.get_experiment(newest.id)
        assert detail.title == newest.title and detail.runs
        assert client.list_projects()[0].name == "tiny" and client.list_branches("tiny")[0].name == "baseline"
        assert client.list_runs("tiny", limit=2)[0].id > client.list_runs("tiny", limit=2)[1].id
        assert client.get_evidence(newest.id).sha == newest.sha
        assert client.list_volunteers()[0].workers == 1 and client.list_hardware_classes("tiny")[0].runs > 12
        assert client.list_findings("tiny", 3)[0].project == "tiny"


def test_it_iterates_to_the_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.client.MAX_LIMIT", 5)  # several pages without many rows
    with Client(url) as client:
        ids = [experiment.id for experiment in client.iterate_experiments("tiny")]
        assert ids == sorted(set(ids), reverse=True) and len(ids) == 12
        assert len(list(client.iterate_runs("tiny"))) >= 15
        assert list(client.iterate_lineage(client.get_experiment(12).sha))[-1].parent_sha is None


def test_what_a_newer_coordinator_adds_is_ignored(tmp_path: Path) -> None:
    folder = tmp_path / "api" / "v1"
    folder.mkdir(parents=True)
    (folder / "volunteers").write_text(
        '{"items":[{"id":1,"name":"ada","role":"volunteer","workers":1,"runs":2,"experiments":3,'
        '"created_at":"2026-01-01T00:00:00Z","new":{"field":1}}],"next_cursor":null,"also":"new"}'
    )
    with serve_folder(tmp_path) as address, Client(address) as client:
        assert client.list_volunteers()[0].name == "ada"
        with pytest.raises(CoordinatorError, match="does not answer like a coordinator"):
            client.list_projects()


def test_a_closed_swarm_is_read_with_a_token(tmp_path: Path, sqlite_folder: SqliteFolder) -> None:
    settings = CoordinatorSettings(database_url=sqlite_folder.create_migrated(tmp_path), public_reading=False)
    app = create_app(settings)
    with serve(app) as server:
        with app.state.database.write() as session:
            token = SecretStr(create_token(session, "ada", "test"))
        with Client(server.url) as client, pytest.raises(CoordinatorError, match="A valid token is needed"):
            client.list_projects()
        with Client(server.url, token) as client:
            assert client.list_projects() == []
