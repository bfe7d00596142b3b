"""`swarm reproduce` with the real worker: the project's own harness in its sandbox, on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.app import create_app
from coordinator.autoresearch.reading import ImportOptions
from coordinator.autoresearch.service import import_session
from coordinator.settings import CoordinatorSettings
from swarm.cli import app
from tests.support.databases import SqliteFolder
from tests.support.servers import serve
from tests.support.sessions import BRANCH, HARDWARE, Session


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, sqlite_folder: SqliteFolder) -> Iterator[str]:
    """Three experiments whose scripts print what they reported, but for the second, which reported too much."""
    folder = tmp_path_factory.mktemp("reproduce")
    session = Session(folder / "autoresearch")
    session.note(session.head[:7], "2.1", "keep", "baseline")
    session.keep("2.000000", "matrix_lr 0.04->0.03")
    session.note(session.commit("wider", "1.990000")[:7], "1.200000", "keep", "wider")
    session.discard("0.000000", "too wide", status="crash")
    application = create_app(CoordinatorSettings(database_url=sqlite_folder.create_migrated(folder)))
    with serve(application) as server:
        options = ImportOptions(session.folder, BRANCH, session.results, HARDWARE, name="session")
        with application.state.database.read() as read, application.state.database.write() as write:
            import_session(read, write, options)
        yield server.url


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SWARM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SWARM_CORES", "1")
    monkeypatch.setenv("SWARM_COORDINATOR_URL", url)


def test_what_repeats_agrees_with_what_is_published() -> None:
    done = CliRunner().invoke(app, ["reproduce", "1", "--with-parent"])
    assert done.exit_code == 0, done.output
    assert "it agrees" in done.stdout and "one run each of it and its parent" in done.stdout
    assert "Measured on other hardware" in done.stdout


def test_what_does_not_repeat_is_said_and_is_an_error() -> None:
    done = CliRunner().invoke(app, ["reproduce", "2", "--seed", "7"])
    assert done.exit_code == 1 and "it does not agree" in done.stdout
    assert "here       1.99000, one run with seed 7" in done.stdout and "--with-parent" in done.stdout


def test_what_has_no_code_is_not_run() -> None:
    done = CliRunner().invoke(app, ["reproduce", "3"])
    assert done.exit_code == 1 and "The code of #3 is lost" in done.stderr
