"""Numbers for Prometheus, at `/metrics`. Their labels are bounded: routes, methods, classes of status, tasks."""

from collections.abc import Iterator
from contextlib import suppress
from secrets import compare_digest

from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.types import Scope

from coordinator.accounts.service import UnauthorizedError
from coordinator.db.database import Database
from coordinator.db.engine import UNAVAILABLE_ERRORS
from coordinator.events.audit import find_last_backup
from coordinator.events.feed import Feed
from coordinator.http.errors import NotFoundError
from coordinator.http.middleware import read_token
from coordinator.settings import CoordinatorSettings

BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"

router = APIRouter(include_in_schema=False)


class Metrics:
    """The numbers of one application. With several server processes each request counts in a file that all share."""

    def __init__(self, app: FastAPI) -> None:
        self._requests = CollectorRegistry()
        self._state = CollectorRegistry()
        self._seconds = Histogram(
            "swarm_http_request_seconds", "Seconds until an answer began", ("method", "route", "status"),
            registry=self._requests, buckets=BUCKETS_SECONDS,
        )  # fmt: skip
        self._series: dict[tuple[str, str, int], Histogram] = {}
        self._state.register(_State(app))
        ProcessCollector(registry=self._state)

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count an answered request. Addresses that are no route count together."""
        method = scope["method"] if scope["method"] in METHODS else OTHER
        key = method, getattr(scope.get("route"), "path", OTHER), status // 100
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._seconds.labels(key[0], key[1], f"{key[2]}xx")
        series.observe(seconds)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        requests = CollectorRegistry()
        try:
            MultiProcessCollector(requests)  # type: ignore[no-untyped-call]
        except ValueError:  # there is one process
            requests = self._requests
        return generate_latest(requests) + generate_latest(self._state)


class _State(Collector):
    """The state of this process, read when it is asked for."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def collect(self) -> Iterator[Metric]:
        state = self._app.state
        database: Database = state.database
        feed: Feed | None = getattr(state, "feed", None)
        yield InfoMetricFamily("swarm_coordinator", "Version", {"version": self._app.version})
        yield _gauge("swarm_database_connections", "Connections to the database in use", database.count_held())
        yield _gauge("swarm_feed_listeners", "Open streams of events", feed.count_listeners() if feed else 0)
        alive = GaugeMetricFamily("swarm_task_alive", "1 while a background task goes on", labels=("task",))
        failures = GaugeMetricFamily("swarm_task_failures", "Failures since its last success", labels=("task",))
        success = GaugeMetricFamily("swarm_task_success_seconds", "Unix time of its last success", labels=("task",))
        for task in state.background.list_health():
            alive.add_metric((task.name,), float(task.is_alive))
            failures.add_metric((task.name,), task.failures)
            if task.last_success_at is not None:
                success.add_metric((task.name,), task.last_success_at.timestamp())
        yield from (alive, failures, success)
        with suppress(*UNAVAILABLE_ERRORS), database.read_one() as session:
            if entry := find_last_backup(session):
                moment = entry.created_at.timestamp()
                yield _gauge("swarm_backup_verified_seconds", "Unix time of the last verified backup", moment)


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value)


@router.get("/metrics")
def show_metrics(request: Request) -> Response:
    """The numbers, for those who have the token of `SWARM_METRICS_TOKEN_FILE`."""
    settings: CoordinatorSettings = request.app.state.settings
    if settings.metrics_token_file is None:
        raise NotFoundError("There are no metrics here: SWARM_METRICS_TOKEN_FILE is not set.")
    given = read_token(request.headers.get("authorization", "")) or ""
    if not compare_digest(given.encode(), settings.read_metrics_token().encode()):
        raise UnauthorizedError("Metrics want the token of SWARM_METRICS_TOKEN_FILE, as a bearer token.")
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"})
