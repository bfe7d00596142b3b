"""The application: routers, error handlers, the live feed. Importing this module builds nothing."""

import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from importlib.metadata import version
from types import FrameType

import uvicorn
from fastapi import FastAPI
from starlette.routing import BaseRoute

from coordinator.accounts import api as accounts_api
from coordinator.accounts.passwords import PasswordAttempts
from coordinator.background import BackgroundTasks
from coordinator.db.database import Database
from coordinator.db.migrate import upgrade
from coordinator.events import api as events_api
from coordinator.events import history
from coordinator.events.feed import Feed, run_feed
from coordinator.events.notices import NOTICE_SECONDS, Notifier
from coordinator.evidence.renewal import end_due_epochs, follow_decisions
from coordinator.experiments import api as experiments_api
from coordinator.experiments import project_lists
from coordinator.export import api as export_api
from coordinator.export import history_api
from coordinator.findings import api as findings_api
from coordinator.findings.semantic_index import run_meaning
from coordinator.findings.service import follow_quarantines
from coordinator.git_http import api as git_api
from coordinator.http import health, metrics
from coordinator.http.errors import install_error_handlers
from coordinator.http.logs import configure_logs
from coordinator.http.middleware import BodyLimit, ClosedReading, ReadableElsewhere, ReadOnly
from coordinator.http.openapi import describe_api
from coordinator.http.prefix import PathPrefix
from coordinator.http.reading import Reading
from coordinator.http.requests import RequestContext
from coordinator.leases import api as leases_api
from coordinator.leases.api import Jobs
from coordinator.leases.heartbeats import run_held_heartbeats
from coordinator.moderation import api as moderation_api
from coordinator.novelty.similarity import Similarity
from coordinator.projects import api as projects_api
from coordinator.records import api as records_api
from coordinator.records.digest import make_due
from coordinator.records.progress import follow_runs
from coordinator.selection import api as selection_api
from coordinator.selection.job_mix import adapt_if_due
from coordinator.settings import CoordinatorSettings
from coordinator.web.pages import install_pages
from coordinator.web.sessions import Visits
from coordinator.workers import api as workers_api
from shared.protocol import OLDEST_PROTOCOL, PROTOCOL_VERSION, Versions

JOBS_AT_ONCE = 20
"""Number of workers' requests that are handled at once."""

JOBS_AT_ONCE_ON_SQLITE = 1
"""The same on SQLite, which computes inside this process: a second thread takes the interpreter from the first."""

JOBS_AT_ONCE_WITH_ENDPOINT = 4
"""The same on SQLite where proposals ask an embeddings endpoint: while one waits for it, others are handled."""

GARBAGE_THRESHOLDS = (50_000, 20, 20)
"""New objects until the youngest are searched, and how many such searches until the older ones are. A claim makes some
thousand objects and hardly any cycle. By Python's own numbers (700, 10, 10) all caches would be searched every two
seconds, which stops all threads for a tenth of one."""


def create_app(given: CoordinatorSettings | None = None, snapshot: str = "") -> FastAPI:
    """The coordinator's application, by default with the settings of the environment. It migrates its database. With
    the name of a `snapshot` it is read only, and does nothing by itself."""
    settings = given or CoordinatorSettings()
    database = Database(settings.database_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        upgrade(database)
        async with AsyncExitStack() as tasks:
            for task in (run_feed(app), run_held_heartbeats(app), run_meaning(app)):
                await tasks.enter_async_context(task)
            for name, seconds, work in [] if snapshot else _list_periodic_work(app.state.database, settings):
                await tasks.enter_async_context(app.state.background.repeat(name, seconds, work))
            at_once = _count_jobs_at_once(database, settings)
            with ThreadPoolExecutor(at_once, "jobs") as threads, ThreadPoolExecutor(at_once, "heartbeats") as quick:
                app.state.jobs = Jobs(database, app.state.held_heartbeats, app.state.similarity, threads, quick)
                yield
        database.close()

    app = FastAPI(
        title="Research swarm",
        version=version("research-swarm"),
        lifespan=lifespan,
        docs_url=None,  # the pages hold a reference that needs no other host
        redoc_url=None,
        license_info={"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        contact={"name": "Maintainers of this coordinator", "url": f"{settings.base_url}/status"},
        telemetry={"tracing": False, "metrics": False, "logs": False},  # nothing here would send it
    )
    app.state.settings = settings
    app.state.background = BackgroundTasks()
    app.state.database = database
    app.state.readiness = health.ReadinessCheck(database, app.state.background)
    app.state.versions = Versions(
        version=app.version,
        protocol=PROTOCOL_VERSION,
        oldest_protocol=OLDEST_PROTOCOL,
        oldest_worker=settings.oldest_worker,
    )
    app.state.similarity = Similarity(database, settings)
    app.state.attempts = PasswordAttempts()
    app.state.snapshot = snapshot
    if snapshot:
        app.add_middleware(ReadOnly, words=snapshot)
    if not settings.public_reading:
        app.add_middleware(ClosedReading, database=database)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, seconds=settings.max_body_seconds)
    app.add_middleware(Visits, is_public=settings.public_reading)
    describe_api(app)
    install_error_handlers(app)
    app.router.routes.extend(_gather_routes())
    install_pages(app)
    app.add_middleware(Reading)
    if origins := settings.readable_from:
        app.add_middleware(ReadableElsewhere, origins=origins)
    app.state.metrics = metrics.Metrics(app)
    app.add_middleware(RequestContext, metrics=app.state.metrics, log_access=settings.access_log)
    if settings.path_prefix:
        app.add_middleware(PathPrefix, prefix=settings.path_prefix)
    return app


def _list_periodic_work(
    database: Database, settings: CoordinatorSettings
) -> list[tuple[str, float, Callable[[], object]]]:
    """The work that a coordinator does by itself: a name, the seconds from one time to the next, and a function."""
    seldom, often = settings.epoch_check_seconds, settings.progress_count_seconds
    return [
        ("epochs", seldom, partial(end_due_epochs, database)),
        ("decisions", often, partial(follow_decisions, database)),
        ("quarantines", often, partial(follow_quarantines, database)),
        ("job mix", seldom, partial(adapt_if_due, database)),
        ("notices", NOTICE_SECONDS, Notifier(database, settings).send_due),
        ("digests", seldom, partial(make_due, database)),
        ("history", often, partial(history.append_pending, database)),
        ("progress", often, partial(follow_runs, database)),
    ]


def _count_jobs_at_once(database: Database, settings: CoordinatorSettings) -> int:
    if database.backend != "sqlite":
        return JOBS_AT_ONCE
    return JOBS_AT_ONCE_WITH_ENDPOINT if settings.embeddings_url else JOBS_AT_ONCE_ON_SQLITE


def create_replica() -> FastAPI:
    """The application of one of several server processes, with its log."""
    settings = CoordinatorSettings()
    configure_logs(settings.log_format)
    app = create_app(settings)
    search_garbage_seldom()
    return app


def search_garbage_seldom() -> None:
    """Have this process search for cyclic garbage less often, and never among the objects that exist now."""
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    gc.enable()


@cache
def _gather_routes() -> list[BaseRoute]:
    """The routes of API and git remote. FastAPI prepares a route at its first request, which takes longer than most
    requests; the applications of one process share the routes."""
    modules = (
        leases_api, project_lists, projects_api, experiments_api, findings_api, history_api, export_api, events_api,
        workers_api, accounts_api, selection_api, records_api, git_api, moderation_api, health, metrics,
    )  # fmt: skip
    return [route for module in modules for route in module.router.routes]


class CoordinatorServer(uvicorn.Server):
    """Closes the live feed before uvicorn shuts down.

    uvicorn waits for open responses before it ends the lifespan, and a stream of events never ends by itself.
    """

    was_interrupted = False
    """Whether Ctrl-C stopped it. After that, `run` returns with some event loops and raises with others."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Record a signal; uvicorn stops at its next tick."""
        self.was_interrupted |= sig == signal.SIGINT
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: streams end at once, other requests get the grace that the configuration gives."""
        assert isinstance(self.config.app, FastAPI)
        feed = self.config.app.state.feed
        assert isinstance(feed, Feed)
        feed.close()
        await super().shutdown(sockets)
