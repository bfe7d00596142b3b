"""A real browser, and a real server with a project of sixty experiments."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright
from sqlalchemy import select

from coordinator.app import create_app
from coordinator.db.database import Database
from coordinator.models import Project, Worker
from coordinator.projects.service import create_project
from coordinator.settings import CoordinatorSettings
from tests.support.messages import make_proposal
from tests.support.seeds import write_seed
from tests.support.servers import serve
from tests.support.swarm_data import History, write_history

EXPERIMENTS = 60
PATIENCE_MS = 60_000


@dataclass(frozen=True)
class Swarm:
    """A running coordinator, and the database behind it."""

    url: str
    database: Database

    def add_experiment(self, title: str, metric: float | None = 3.25) -> int:
        """Store an experiment on the root, as if a worker had delivered it; returns its id."""
        with self.database.write() as session:
            project = session.scalars(select(Project)).one()
            worker = session.scalars(select(Worker).limit(1)).one()
            history = History(session, project)
            return history.add_experiment(worker, project.root_sha, metric, make_proposal(title)).id


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """A project with sixty varied experiments, failures and hostile text among them."""
    folder = tmp_path_factory.mktemp("swarm")
    app = create_app(CoordinatorSettings(database_url=f"sqlite:///{folder}/coordinator.db", event_poll_seconds=0.1))
    with serve(app) as server:
        database = app.state.database
        with database.write() as session:
            project, _ = create_project(session, write_seed(folder / "seed"))
            write_history(session, project, EXPERIMENTS)
        yield Swarm(server.url, database)


@pytest.fixture
def bare_server(tmp_path: Path) -> Iterator[Swarm]:
    """A coordinator without any project."""
    app = create_app(CoordinatorSettings(database_url=f"sqlite:///{tmp_path}/coordinator.db", event_poll_seconds=0.1))
    with serve(app) as server:
        yield Swarm(server.url, app.state.database)


def find_chromium() -> str:
    """SWARM_CHROMIUM, or a Chromium on PATH. Without one the tests fail: they are not optional."""
    named = os.environ.get("SWARM_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.fail(
            "No browser. Install Chromium (Debian, Ubuntu: apt-get install chromium), "
            "or name one by SWARM_CHROMIUM=/path/to/chromium.",
            pytrace=False,
        )
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """One browser for a module's tests."""
    # Per module, not per session: while it lives, no event loop can run in this thread.
    with sync_playwright() as playwright:
        # Containers have neither user namespaces nor much /dev/shm, and no GPU.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
        expect.set_options(timeout=PATIENCE_MS)
        yield browser.new_context(viewport={"width": 1280, "height": 900})
        browser.close()


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    """A browser's tab. Afterwards: no error in its console, and no request that left loopback."""
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def on_request(request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            complaints.append(f"a request to {request.url}")

    tab = browser.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    tab.on("console", on_console)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", on_request)
    yield tab
    tab.close()
    assert complaints == []
