"""A real application on a real database, for the coordinator's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from coordinator.admin.integrity import find_problems
from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from tests.support.seeds import write_seed
from tests.support.tokens import create_token
from tests.support.volunteers import MiniWorker


@pytest.fixture
def settings(database_url: str) -> CoordinatorSettings:
    """Settings under which periodic tasks never come due: tests call the work themselves and see no other change."""
    never = 1e6
    return CoordinatorSettings(
        database_url=database_url, epoch_check_seconds=never, meaning_check_seconds=never, progress_count_seconds=never
    )


@pytest.fixture
def app(settings: CoordinatorSettings) -> FastAPI:
    app = create_app(settings)
    app.state.live_pages.rest_factor = 0.0  # a page is read right after something was stored
    return app


@pytest.fixture
def http(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def database(app: FastAPI, http: TestClient) -> Database:
    """The application's own database, migrated."""
    database = app.state.database
    assert isinstance(database, Database)
    return database


@pytest.fixture
def stays_whole(database: Database) -> Iterator[None]:
    """Afterwards `verify` finds nothing wrong: for a test of each kind of writer."""
    yield
    with database.read() as session:
        assert list(find_problems(session, lambda what, done, total: None)) == []


@pytest.fixture
def project(database: Database, tmp_path: Path) -> str:
    """The name of a small project."""
    with database.write() as session:
        return create_project(session, write_seed(tmp_path / "seed"))[0].name


@pytest.fixture
def make_worker(database: Database, http: TestClient) -> Callable[..., MiniWorker]:
    """Make a worker of a volunteer, each time with a new token."""

    def make(name: str = "w1", volunteer: str = "ada") -> MiniWorker:
        with database.write() as session:
            token = create_token(session, volunteer, "test")
        return MiniWorker(http, token, name)

    return make


@pytest.fixture
def worker(project: str, make_worker: Callable[..., MiniWorker]) -> MiniWorker:
    """A worker of ada's, with a project to work on."""
    return make_worker()
