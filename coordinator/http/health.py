"""Answers for monitoring and crawlers: whether the process is alive and can serve, and which pages to read."""

import asyncio
import time

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from coordinator.background import BackgroundTasks
from coordinator.db.database import Database
from coordinator.db.engine import UNAVAILABLE_ERRORS
from coordinator.http.prefix import root

FRESH_SECONDS = 1.0
"""How long the database's last answer counts, so that many questions cost one query a second."""

PATIENCE_SECONDS = 5.0
"""How long the database may take to answer."""

router = APIRouter(include_in_schema=False)


class ReadinessCheck:
    """Looks whether one replica can serve. One question to the database is under way at a time."""

    def __init__(self, database: Database, tasks: BackgroundTasks) -> None:
        self._database, self._tasks = database, tasks
        self._asked: asyncio.Task[dict[str, str]] | None = None
        self._asked_at = 0.0

    async def find_faults(self) -> dict[str, str]:
        """The reasons why this replica cannot serve, by part.

        A task that fails and tries again is no fault: it would take away all replicas at once. `/metrics` shows it.
        """
        now = time.monotonic()
        if self._asked is None or (self._asked.done() and now - self._asked_at >= FRESH_SECONDS):
            self._asked, self._asked_at = asyncio.create_task(asyncio.to_thread(self._ask_database)), now
        await asyncio.wait([self._asked], timeout=PATIENCE_SECONDS)
        slow = {"database": f"no answer within {PATIENCE_SECONDS:.0f} s"}
        faults = self._asked.result() if self._asked.done() else slow
        ended = [task.name for task in self._tasks.list_health() if not task.is_alive]
        return faults | ({"tasks": f"ended: {', '.join(ended)}"} if ended else {})

    def _ask_database(self) -> dict[str, str]:
        try:
            return {} if self._database.is_current() else {"schema": "is not the one of this program"}
        except UNAVAILABLE_ERRORS:
            return {"database": "cannot be used"}  # the log has the reason; this answer is public


@router.get("/healthz")
async def show_alive() -> Response:
    """The process answers. It asks nobody else, so that a database that is away causes no restarts."""
    return PlainTextResponse("ok\n", headers={"Cache-Control": "no-store"})


@router.get("/readyz")
async def show_ready(request: Request) -> Response:
    """Whether this replica should get requests: `503` with the reasons where it should not."""
    check: ReadinessCheck = request.app.state.readiness
    faults = await check.find_faults()
    content = {"ready": not faults, "faults": faults}
    return JSONResponse(content, 503 if faults else 200, {"Cache-Control": "no-store"})


@router.get("/robots.txt")
async def show_robots(request: Request) -> Response:
    """Crawlers may read the pages of a public swarm, but neither API, git nor live parts."""
    closed = (
        ("/api/", "/git/", "/live", "/experiments/*/live", "/projects/*/live", "/projects/*/plot")
        if request.app.state.settings.public_reading
        else ("/",)
    )
    lines = ["User-agent: *", *(f"Disallow: {root()}{path}" for path in closed)]
    return PlainTextResponse("\n".join(lines) + "\n")
