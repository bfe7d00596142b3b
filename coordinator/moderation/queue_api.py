"""The queue of what waits for moderators, and readers' reports, over HTTP."""

from fastapi import APIRouter, Request, status

from coordinator.accounts.permissions import Permission
from coordinator.accounts.security import BearerToken
from coordinator.accounts.service import authenticate, authorize
from coordinator.db.database import ReadSession, WriteSession
from coordinator.http.addresses import ClientAddress
from coordinator.http.pagination import RowId
from coordinator.http.parameters import KNOWN_ONLY
from coordinator.moderation import queue, reports, service
from coordinator.moderation.api import act
from shared.moderation import AuditView
from shared.protocol import API_PREFIX, Page
from shared.queue import QueueKind, QueuePage, QueueRequest, ReportRequest

router = APIRouter(prefix=API_PREFIX, tags=["duties"], dependencies=KNOWN_ONLY)


@router.get("/queue")
def list_queue(request: Request, session: ReadSession, token: BearerToken, kind: QueueKind | None = None) -> QueuePage:
    """List the things that wait for moderators: that for which most waits comes first, then the oldest."""
    authorize(session, token, Permission.LOOK)
    return queue.view_queue(session, kind, request.app.state.background.list_health())


@router.post("/queue/actions")
def act_on_queue(request: Request, asked: QueueRequest, token: BearerToken, session: WriteSession) -> Page[AuditView]:
    """Do the same about some things that wait; all of it is done, or nothing."""
    actor = act(session, token, Permission.LOOK)
    done = queue.act(session, actor, asked, request.app.state.background.list_health())
    return Page(items=[service.view(entry) for entry in done])


@router.post("/findings/{finding_id}/reports", status_code=status.HTTP_204_NO_CONTENT, tags=["findings"])
def report_finding(
    finding_id: RowId, asked: ReportRequest, token: BearerToken, address: ClientAddress, session: WriteSession
) -> None:
    """Tell the moderators that something is wrong with a finding; with a token, or without where reading is public."""
    volunteer_id = authenticate(session, token) if token else None
    reports.report_finding(session, finding_id, asked.text, volunteer_id, address)
