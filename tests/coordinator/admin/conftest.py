"""A database with a past in it, and whole databases compared."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fastapi.testclient import TestClient

from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.settings import CoordinatorSettings
from tests.support.databases import PostgresServer
from tests.support.swarm_data import EarlierHistory

PATHS = (
    "projects",
    "projects/tiny/branches",
    "experiments?project=tiny",
    "experiments/7",
    "runs/3",
    "findings?project=tiny",
)


def make_program() -> str:
    random = Random(3)
    return "".join(f"    weight_{number} = scale * {random.random()}\n" for number in range(200))


@pytest.fixture
def earlier(request: pytest.FixtureRequest) -> EarlierHistory | None:
    return EarlierHistory(12, train=make_program()) if "filled" in request.fixturenames else None


@pytest.fixture
def filled(database_url: str) -> Iterator[Database]:
    """A project with a past of a dozen experiments."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def empty_url(filled: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """An address of the same kind, where nothing is yet."""
    if filled.backend == "sqlite":
        yield f"sqlite:///{tmp_path}/elsewhere/coordinator.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    address = server.create()
    yield address
    server.drop(address)


@pytest.fixture
def pg_bin(filled: Database, request: pytest.FixtureRequest) -> Path | None:
    """The folder of PostgreSQL's programs, where the database is PostgreSQL."""
    if filled.backend == "sqlite":
        return None
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.bin_folder


@pytest.fixture
def read_api() -> Callable[[str], list[Any]]:
    """The API's answers over a database."""

    def read(url: str) -> list[Any]:
        with TestClient(create_app(CoordinatorSettings(database_url=url))) as http:
            answers = [http.get(f"/api/v1/{path}") for path in PATHS]
        assert {answer.status_code for answer in answers} == {200}, answers
        return [answer.json() for answer in answers]

    return read


def show_nothing(what: str, done: int, total: int) -> None:
    assert 0 <= done <= total, f"{what}: {done} of {total}"
