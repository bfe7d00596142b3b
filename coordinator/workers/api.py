"""Workers over HTTP: the lists of workers and volunteers, and notices by which a worker reports its state."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.accounts.security import BearerToken
from coordinator.accounts.service import authenticate
from coordinator.db.database import ReadSession, WriteSession
from coordinator.http.pagination import Cursor, Limit
from coordinator.workers import service
from shared.protocol import API_PREFIX, Page
from shared.workers import MessageReceipt, VolunteerView, WorkerNotice, WorkerState, WorkerView

router = APIRouter(prefix=API_PREFIX, tags=["workers"])


@router.get("/workers")
def list_workers(
    session: ReadSession,
    cursor: Cursor = None,
    limit: Limit = 50,
    state: Annotated[list[WorkerState] | None, Query(description="only these")] = None,
) -> Page[WorkerView]:
    """All workers, the newest first."""
    return service.view_page(session, cursor, limit, state)


@router.get("/volunteers", tags=["volunteers"])
def list_volunteers(session: ReadSession, cursor: Cursor = None, limit: Limit = 50) -> Page[VolunteerView]:
    """All volunteers and what their workers did, the newest first."""
    return service.view_volunteers(session, cursor, limit)


@router.post("/workers/notices")
def take_notice(notice: WorkerNotice, token: BearerToken, session: WriteSession) -> WorkerView:
    """Report that a worker pauses, waits, goes on or ends, so that people see why nothing happens."""
    return service.take_notice(session, authenticate(session, token), notice)


@router.post("/workers/receipts")
def take_receipt(receipt: MessageReceipt, token: BearerToken, session: WriteSession) -> WorkerView:
    """Report that a message was shown in the worker's terminal, so that it is not sent again."""
    return service.take_receipt(session, authenticate(session, token), receipt)
