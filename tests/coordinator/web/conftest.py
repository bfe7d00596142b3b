"""A real browser, and a real server with a project of sixty experiments."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
from tests.support.browser import ARGUMENTS, find_chromium
from tests.support.messages import make_proposal
from tests.support.ports import choose_port
from tests.support.seeds import write_seed
from tests.support.servers import serve
from tests.support.swarm_data import History, write_history
from tests.support.web_proxies import run_caddy

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


@contextmanager
def serve_swarm(folder: Path, path: str) -> Iterator[Swarm]:
    """An empty coordinator at the root of its address, or behind the shipped Caddy below `path`."""
    with ExitStack() as stack:
        port = choose_port()
        app = create_app(
            CoordinatorSettings(
                database_url=f"sqlite:///{folder}/coordinator.db", event_poll_seconds=0.1,
                public_url=f"http://127.0.0.1:{port}{path}" if path else "",
            )
        )  # fmt: skip
        server = stack.enter_context(serve(app))
        url = server.url
        if path:
            upstream = int(server.url.rpartition(":")[2])
            proxied = stack.enter_context(run_caddy(folder, port, path, [upstream]))
            deadline = time.monotonic() + PATIENCE_MS / 1000
            while proxied.get("/healthz").status_code != 200:  # until it found out that the coordinator is ready
                assert time.monotonic() < deadline
            url = str(proxied.base_url).rstrip("/")
        yield Swarm(url, app.state.database)


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """A project with sixty varied experiments, failures and hostile text among them, below a path.

    There everything can break that works at the root; pages at the root are those of `bare_server` and of the liar.
    """
    folder = tmp_path_factory.mktemp("swarm")
    with serve_swarm(folder, "/swarm") as swarm:
        with swarm.database.write() as session:
            project, _ = create_project(session, write_seed(folder / "seed"))
            write_history(session, project, EXPERIMENTS)
        yield swarm


@pytest.fixture
def bare_server(tmp_path: Path) -> Iterator[Swarm]:
    """A coordinator without any project."""
    app = create_app(CoordinatorSettings(database_url=f"sqlite:///{tmp_path}/coordinator.db", event_poll_seconds=0.1))
    with serve(app) as server:
        yield Swarm(server.url, app.state.database)


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """One browser for a module's tests."""
    # Per module, not per session: while it lives, no event loop can run in this thread.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        expect.set_options(timeout=PATIENCE_MS)
        yield browser.new_context(viewport={"width": 1280, "height": 900})
        browser.close()


@pytest.fixture
def page(request: pytest.FixtureRequest, browser: BrowserContext) -> Iterator[Page]:
    """A browser's tab. Afterwards: no error in its console, and no request that left the swarm's address."""
    complaints: list[str] = []
    allowed = request.getfixturevalue("swarm").url if "swarm" in request.fixturenames else "http://127.0.0.1:"

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def on_request(sent: Request) -> None:
        if not sent.url.startswith((allowed, "data:", "blob:")):
            complaints.append(f"a request to {sent.url}")

    tab = browser.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    tab.on("console", on_console)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", on_request)
    yield tab
    tab.close()
    assert complaints == []
