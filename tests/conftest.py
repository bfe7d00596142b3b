"""Databases of both kinds, a sandbox with torch in it, and the profiles of property tests."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import Past, PostgresServer, SqliteFolder, run_postgres
from tests.support.examples import register_profiles
from tests.support.preloaded_sandbox import PreloadedSandbox, enter_sandbox
from tests.support.statements import share_statements
from worker.sandbox.choose import choose_sandbox

register_profiles()
share_statements()

gc.disable()  # while modules load: their objects live as long as the process


def pytest_collection_finish() -> None:
    """Leave all objects that exist now out of later garbage collections."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server, started when the first test asks."""
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_folder(tmp_path_factory: pytest.TempPathFactory) -> SqliteFolder:
    return SqliteFolder(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture
def earlier() -> Past | None:
    """The rows of a database when a test begins: none, unless a module overrides this."""
    return None


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, earlier: Past | None, tmp_path: Path) -> Iterator[str]:
    """A migrated database with what happened `earlier` in it: the test runs once on each kind."""
    if request.param == "sqlite":
        folder: SqliteFolder = request.getfixturevalue("sqlite_folder")
        yield folder.create_filled(tmp_path, earlier) if earlier else folder.create_migrated(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    address = server.create_filled(earlier) if earlier else server.create_migrated()
    yield address
    (server.drop if earlier else server.give_back)(address)


@pytest.fixture(scope="session")
def preloaded() -> Iterator[PreloadedSandbox]:
    """The real sandbox, in which torch is imported once for all tests that can share it."""
    with enter_sandbox(choose_sandbox("auto")) as preloaded:
        yield preloaded
