"""The researcher's command line and client, against a real coordinator."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.app import create_app
from coordinator.projects.service import create_project
from coordinator.settings import Settings
from swarm import Client, CoordinatorError
from swarm.cli import app
from tests.support.databases import SqliteFolder
from tests.support.seeds import write_seed
from tests.support.servers import serve
from tests.support.swarm_data import write_history
from tests.support.tiny_project import serve_folder

EXPERIMENTS = 6


@pytest.fixture
def url(tmp_path: Path, sqlite_folder: SqliteFolder) -> Iterator[str]:
    """A coordinator whose project has a past."""
    application = create_app(Settings(database_url=sqlite_folder.create_migrated(tmp_path)))
    with serve(application) as server:
        with application.state.database.write() as session:
            project, _ = create_project(session, write_seed(tmp_path / "seed"))
            write_history(session, project, EXPERIMENTS)
        yield server.url


def test_lists_experiments_for_people_and_for_pipes(url: str) -> None:
    shown = CliRunner().invoke(app, ["experiments", "tiny", "--coordinator", url], env={"COLUMNS": "120"})
    assert shown.exit_code == 0 and "val_bpb" in shown.output and "±" in shown.output
    piped = CliRunner().invoke(app, ["experiments", "tiny", "--coordinator", url, "--json", "--limit", "3"])
    documents = [json.loads(line) for line in piped.output.splitlines()]
    assert [document["id"] for document in documents] == sorted((d["id"] for d in documents), reverse=True)
    assert len(documents) == 3


def test_the_client_returns_typed_models(url: str) -> None:
    with Client(url) as client:
        newest = client.list_experiments("tiny")[0]
        detail = client.get_experiment(newest.id)
        assert detail.title == newest.title and detail.runs
        assert client.list_projects()[0].name == "tiny"
        assert client.list_runs("tiny", limit=2)[0].id > client.list_runs("tiny", limit=2)[1].id


def test_mistakes_are_one_clear_line(url: str, tmp_path: Path) -> None:
    unknown = CliRunner().invoke(app, ["experiments", "nope", "--coordinator", url])
    assert unknown.exit_code == 1 and "There is no project 'nope'" in unknown.output
    gone = CliRunner().invoke(app, ["experiments", "tiny", "--coordinator", "http://127.0.0.1:9"])
    assert gone.exit_code == 1 and "cannot be reached" in gone.output and gone.output.count("\n") == 1
    wrong = pytest.raises(CoordinatorError, match="does not answer like a coordinator")
    with serve_folder(tmp_path) as address, Client(address) as client, wrong:
        client.list_projects()
