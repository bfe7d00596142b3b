"""A coordinator on a real port whose project has experiments, shared by the client's tests."""

from collections.abc import Callable, Iterator

import pytest
from click.testing import Result
from typer.testing import CliRunner

from coordinator.app import create_app
from coordinator.events.history import append_pending
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from swarm.cli import app
from tests.support.databases import SqliteFolder
from tests.support.seeds import write_seed
from tests.support.servers import serve, wait_for_vectors
from tests.support.swarm_data import write_history

EXPERIMENTS = 12

Swarm = Callable[..., Result]


@pytest.fixture(scope="package")
def url(tmp_path_factory: pytest.TempPathFactory, sqlite_folder: SqliteFolder) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("swarm")
    application = create_app(CoordinatorSettings(database_url=sqlite_folder.create_migrated(folder)))
    with serve(application) as server:
        with application.state.database.write() as session:
            write_history(session, create_project(session, write_seed(folder / "seed"))[0], EXPERIMENTS)
        append_pending(application.state.database)
        wait_for_vectors(server.url)
        yield server.url


@pytest.fixture
def swarm(url: str) -> Swarm:
    """Run a command of `swarm` against the coordinator, at a terminal of 80 columns."""

    def run(*arguments: object, **options: str) -> Result:
        environment = {"SWARM_COORDINATOR_URL": url, "COLUMNS": "80", "TERM": "dumb"}
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment, **options)

    return run
