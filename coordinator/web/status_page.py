"""`/status`: how the swarm is doing as a whole, for everybody. What only its operators need is in `/metrics`."""

from fastapi import APIRouter, Request, Response

from coordinator.background import BackgroundTasks
from coordinator.db.database import ReadSession
from coordinator.events.audit import find_last_backup
from coordinator.evidence import queries as evidence
from coordinator.web.project_page import view_now
from coordinator.web.rendering import render
from coordinator.workers import service as workers

router = APIRouter(include_in_schema=False)

MAX_PACE_RUNS = 1_000
"""Number of newest results from which the pace is told."""


@router.get("/status")
def show_status(request: Request, session: ReadSession) -> Response:
    """Throughput, what waits in each hardware class, background tasks, and the last verified backup."""
    tasks: BackgroundTasks = request.app.state.background
    page = {
        "now": view_now(session, None),
        "machines": workers.count_recent(session),
        "pace": evidence.find_pace(session, MAX_PACE_RUNS),
        "due": evidence.count_due_by_class(session),
        "tasks": tasks.list_health(),
        "backup": find_last_backup(session),
        "version": request.app.version,
    }
    return render("status/status.html", page=page)
