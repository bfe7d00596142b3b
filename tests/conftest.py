"""Databases of both kinds, a sandbox with torch in it, and how property tests draw their examples."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.databases import PostgresServer, SqliteFolder, run_postgres
from tests.support.preloaded import PreloadedSandbox, enter_sandbox
from worker.sandbox import choose_sandbox

# The gate draws the same examples each time, and no example is timed: a busy machine is not a bug.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=3000)
settings.load_profile("gate")

gc.disable()  # while modules load: what they make lives as long as the process


def pytest_collection_finish() -> None:
    """What is loaded by now is left out of every later search for garbage."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL server, started when the first test asks."""
    with run_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_folder(tmp_path_factory: pytest.TempPathFactory) -> SqliteFolder:
    return SqliteFolder(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated, empty database: the test runs once on each kind."""
    if request.param == "sqlite":
        folder: SqliteFolder = request.getfixturevalue("sqlite_folder")
        yield folder.create_migrated(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    address = server.create_migrated()
    yield address
    server.drop(address)


@pytest.fixture(scope="session")
def preloaded() -> Iterator[PreloadedSandbox]:
    """The real sandbox, in which torch is imported once for all tests that can share it."""
    with enter_sandbox(choose_sandbox("auto")) as preloaded:
        yield preloaded
