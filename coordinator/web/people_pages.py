"""Pages of people: the leaderboard, and what one volunteer contributed."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response

from coordinator.accounts import service as accounts
from coordinator.accounts.permissions import STAFF
from coordinator.db.database import CurrentDatabase, ReadSession
from coordinator.findings import service as findings
from coordinator.http.errors import NotFoundError, SwarmError
from coordinator.http.pagination import Cursor
from coordinator.moderation import service as moderation
from coordinator.projects import service as projects
from coordinator.projects.lookup import list_projects
from coordinator.records import contributions
from coordinator.web.charts import draw_small
from coordinator.web.rendering import render
from coordinator.web.sessions import CsrfChecked, Moderator, Visitor, act_as, redirect
from coordinator.workers import queries as workers
from coordinator.workers.queries import WorkerFilters
from shared.moderation import Reason
from shared.protocol import Slug
from shared.workers import LeaderboardOrder, LeaderboardPeriod

router = APIRouter(include_in_schema=False)

MAX_WORKERS, MAX_PAPERS = 50, 20


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
        "workers": workers.list_newest(session, WorkerFilters(volunteer=name), None, MAX_WORKERS + 1),
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
    try:
        with database.write() as session:
            entry = moderation.retract_papers(session, act_as(moderator), name, reason)
            number, count = entry.id, len(entry.after or {})
    except SwarmError as error:
        return redirect(request, f"/volunteers/{name}", f"Nothing was done. {error.title}. {error.detail}", "problem")
    papers = "paper is" if count == 1 else "papers are"
    return redirect(request, f"/volunteers/{name}", f"{count} {papers} retracted. In the audit log: {number}.")
