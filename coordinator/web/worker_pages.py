"""Pages of the fleet and its people.

All workers, a project's part, one worker with the forms by which staff acts on it; the leaderboard, and what one
volunteer contributed.
"""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel
from sqlalchemy.orm import Session

from coordinator.accounts import service as accounts
from coordinator.accounts.permissions import STAFF
from coordinator.db.database import CurrentDatabase, ReadSession
from coordinator.db.engine import LabelledRow
from coordinator.events.audit import Actor
from coordinator.findings import service as findings
from coordinator.http.errors import NotFoundError, RequestInvalidError, must_find
from coordinator.http.pagination import Cursor, RowId
from coordinator.http.prefix import root
from coordinator.models import AuditEntry
from coordinator.moderation import service as moderation
from coordinator.projects import service as projects
from coordinator.projects.lookup import list_projects
from coordinator.records import contributions
from coordinator.web.charts import draw_small
from coordinator.web.fleet_pictures import HEIGHT, WIDTH, draw_offsets, draw_timeline, name_state
from coordinator.web.project_page import view_now
from coordinator.web.rendering import render
from coordinator.web.sessions import CsrfChecked, Moderator, Visitor, act_as, redirect
from coordinator.workers import queries, service
from coordinator.workers.queries import WorkerFilters
from coordinator.workers.service import WorkerMark, WorkerOrder
from shared.moderation import Reason
from shared.protocol import CLEAN, Slug, now
from shared.workers import MAX_MESSAGE, LeaderboardOrder, LeaderboardPeriod, Role, WorkerState

router = APIRouter(include_in_schema=False)

ROWS = 50
MAX_KINDS = 20
"""Rows of the table of hardware classes and versions."""

MAX_LEASES, MAX_FAILURES, MAX_OFFSETS = 50, 10, 100

Word = Annotated[str, Query(max_length=200), CLEAN]


class WorkerChange(StrEnum):
    """A change of a worker, as the last part of its form's address."""

    ANCHOR = "anchor"
    NO_ANCHOR = "no-anchor"
    PAUSE = "pause"
    RESUME = "resume"
    QUARANTINE = "quarantine"
    RELEASE = "release"
    MESSAGE = "message"


class FleetQuery(BaseModel):
    """The filters of the list, as they stand in its address; empty means all."""

    state: WorkerState | Annotated[str, Query(pattern="^$")] = ""
    mark: WorkerMark | Annotated[str, Query(pattern="^$")] = ""
    hardware_class: Word = ""
    version: Word = ""
    volunteer: Word = ""
    order: WorkerOrder = WorkerOrder.SEEN
    cursor: Annotated[str, Query(max_length=100)] = ""


@router.get("/workers")
def show_workers(session: ReadSession, given: Annotated[FleetQuery, Query()]) -> Response:
    """All workers."""
    return render("workers/list.html", page=_view_fleet(session, given, None, ""))


@router.get("/projects/{name}/workers")
def show_workers_of_project(name: Slug, session: ReadSession, given: Annotated[FleetQuery, Query()]) -> Response:
    """Workers that had a job of the project in their present hardware class."""
    project = projects.get_project(session, name)
    page = {"project": projects.view_project(project)} | _view_fleet(session, given, project.id, name)
    return render("workers/list.html", page=page)


def _view_fleet(session: Session, given: FleetQuery, project_id: int | None, name: str) -> dict[str, Any]:
    chosen = {key: value for key, value in given.model_dump(exclude={"cursor", "order"}).items() if value}
    filters = WorkerFilters(**chosen, project_id=project_id)
    counts = queries.count_fleet(session, WorkerFilters(project_id=project_id))
    kinds = _pivot(counts)
    kept = chosen | ({"order": given.order.value} if given.order != WorkerOrder.SEEN else {})
    return {
        "workers": service.list_workers(session, filters, given.order, given.cursor or None, ROWS),
        "here": f"/projects/{name}/workers" if name else "/workers",
        "given": given,
        "is_narrowed": bool(chosen),
        "query": urlencode(kept),
        "now": view_now(session, project_id),
        "total": sum(count.workers for count in counts),
        "states": [state for state in WorkerState if any(count.state == state for count in counts)],
        "kinds": kinds[:MAX_KINDS],
        "more_kinds": len(kinds) - MAX_KINDS,
        "classes": sorted({count.hardware_class for count in counts} | {given.hardware_class} - {""}),
        "versions": sorted({count.version for count in counts if count.version} | {given.version} - {""}),
        "all_states": list(WorkerState),
        "marks": list(WorkerMark),
        "orders": list(WorkerOrder),
    }


def _pivot(counts: Sequence[LabelledRow]) -> list[tuple[str, str, int, Counter[str]]]:
    """Counts as (hardware class, version, workers, workers by state), most first."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for count in counts:
        found.setdefault((count.hardware_class, count.version), Counter())[count.state] += count.workers
    return sorted(((*key, by.total(), by) for key, by in found.items()), key=lambda row: (-row[2], row[:2]))


@router.get("/workers/{worker_id}")
def show_worker(worker_id: RowId, session: ReadSession, visitor: Visitor) -> Response:
    """A worker: its leases, its offset, its failures."""
    worker, moment = service.get_view(session, worker_id), now()
    duties = queries.find_duties(session, worker_id)
    is_maintainer = visitor is not None and visitor.role == Role.MAINTAINER
    leases = queries.list_leases(session, worker_id, MAX_LEASES)
    page = {
        "worker": worker,
        "here": f"/workers/{worker_id}/",
        "duties": duties,
        "is_maintainer": is_maintainer,
        "may_act": is_maintainer or (visitor is not None and visitor.role in STAFF and duties.role not in STAFF),
        "timeline": draw_timeline(leases, moment),
        "width": WIDTH,
        "height": HEIGHT,
        "leases": [(lease, name_state(lease, moment)) for lease in leases],
        "calibrations": queries.list_calibrations(session, worker_id, worker.hardware_class),
        "offsets": draw_offsets(queries.list_offsets(session, worker_id, MAX_OFFSETS)),
        "failures": queries.list_failures(session, worker_id, MAX_FAILURES),
    }
    return render("workers/worker.html", page=page)


@router.get("/volunteers/{name}/{worker:path}")
def show_worker_by_name(name: Slug, worker: str, session: ReadSession) -> Response:
    """Lead from `volunteer/worker`, as people call it, to its page."""
    found = must_find(queries.find_view_by_name(session, name, worker), f"{name} has no worker {worker!r}.")
    return RedirectResponse(f"{root()}/workers/{found.id}", 303)


@router.post("/workers/{worker_id}/{change}", dependencies=[CsrfChecked])
def change_worker(
    worker_id: RowId,
    change: WorkerChange,
    request: Request,
    database: CurrentDatabase,
    moderator: Moderator,
    reason: Annotated[Reason, Form()],
) -> Response:
    """Act on a worker."""

    def act(session: Session, actor: Actor, name: str, worker: str) -> AuditEntry:
        if change == WorkerChange.MESSAGE:
            return moderation.send_message(session, actor, name, worker, reason)
        is_on = change in (WorkerChange.ANCHOR, WorkerChange.PAUSE, WorkerChange.QUARANTINE)
        if change in (WorkerChange.ANCHOR, WorkerChange.NO_ANCHOR):
            return moderation.set_anchor(session, actor, name, worker, reason, is_anchor=is_on)
        if change in (WorkerChange.PAUSE, WorkerChange.RESUME):
            return moderation.set_pause(session, actor, name, worker, reason, is_on=is_on)
        return moderation.set_quarantine(session, actor, name, worker, reason, is_on=is_on)

    if change == WorkerChange.MESSAGE and len(reason) > MAX_MESSAGE:
        raise RequestInvalidError(f"A message has at most {MAX_MESSAGE} characters.")
    with database.write() as session:
        worker = service.get_view(session, worker_id)
        entry = act(session, act_as(moderator), worker.volunteer, worker.name).id
    return redirect(request, f"/workers/{worker_id}", f"Done: {change.replace('-', ' ')}. In the audit log: {entry}.")


MAX_WORKERS, MAX_PAPERS = 50, 10


@router.get("/leaderboard")
def show_leaderboard(
    session: ReadSession,
    period: LeaderboardPeriod = LeaderboardPeriod.MONTH,
    order: LeaderboardOrder = LeaderboardOrder.GAIN,
    of: Annotated[str, Query(alias="project", max_length=63)] = "",
) -> Response:
    """The volunteers who contributed most."""
    project = projects.get_project(session, of) if of else None
    page = {
        "board": contributions.view_leaderboard(session, period, order, project),
        "periods": list(LeaderboardPeriod),
        "orders": list(LeaderboardOrder),
        "projects": [one.name for one in list_projects(session)],
    }
    return render("people/leaderboard.html", page=page)


@router.get("/volunteers/{name}")
def show_volunteer(name: Slug, session: ReadSession, visitor: Visitor, cursor: Cursor = None) -> Response:
    """A volunteer: contribution, workers, papers. Accounts that wait for approval show to staff alone."""
    account = accounts.get_account(session, name)
    is_staff = visitor is not None and visitor.role in STAFF
    if account.is_pending and not is_staff:
        raise NotFoundError(f"There is no account {name!r}.")
    papers = findings.view_of_account(session, account.id, cursor, MAX_PAPERS)
    page = {
        "account": account,
        "retraction": f"/volunteers/{name}/papers/retraction",
        "is_staff": is_staff,
        "done": contributions.view_volunteer(session, name, account.id),
        "trust": contributions.count_trust(session, account.id),
        "workers": queries.list_newest(session, WorkerFilters(volunteer=name), None, MAX_WORKERS + 1),
        "max_workers": MAX_WORKERS,
        "papers": papers,
        "pictures": draw_small(papers.items),
        "is_first": cursor is None,
    }
    return render("people/volunteer.html", page=page)


@router.post("/volunteers/{name}/papers/retraction", dependencies=[CsrfChecked])
def retract_papers(
    name: Slug, request: Request, database: CurrentDatabase, moderator: Moderator, reason: Annotated[Reason, Form()]
) -> Response:
    """Retract the published papers of an account, at most the 1,000 newest."""
    with database.write() as session:
        entry = moderation.retract_papers(session, act_as(moderator), name, reason)
        number, count = entry.id, len(entry.after or {})
    papers = "paper is" if count == 1 else "papers are"
    return redirect(request, f"/volunteers/{name}", f"{count} {papers} retracted. In the audit log: {number}.")
