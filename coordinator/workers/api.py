"""Workers over HTTP: the lists of workers and volunteers, and notices by which a worker reports its state."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from coordinator.accounts.security import BearerToken
from coordinator.accounts.service import authenticate
from coordinator.db.database import ReadSession, WriteSession
from coordinator.http.pagination import GivenCursor, Limit
from coordinator.http.parameters import KNOWN_ONLY, Moment
from coordinator.workers import service
from coordinator.workers.queries import VolunteerFilters, WorkerFilters
from coordinator.workers.service import VolunteerOrder, WorkerMark, WorkerOrder
from shared.protocol import API_PREFIX, CLEAN, Page, Slug
from shared.workers import MessageReceipt, Role, VolunteerView, WorkerNotice, WorkerState, WorkerView

router = APIRouter(prefix=API_PREFIX, tags=["workers"], dependencies=KNOWN_ONLY)


class WorkerQuery(BaseModel):
    """The filters and the order of the list of workers, as they stand in addresses."""

    project: Annotated[Slug | None, Query(description="only those that had a job of this project")] = None
    state: Annotated[list[WorkerState], Query(description="only these; may be repeated")] = []
    hardware_class: Annotated[str | None, Query(max_length=200), CLEAN] = None
    volunteer: Annotated[str | None, Query(max_length=200, description="only this volunteer's"), CLEAN] = None
    version: Annotated[str | None, Query(max_length=60, description="only this version of the program"), CLEAN] = None
    mark: Annotated[WorkerMark | None, Query(description="only anchors, those paused, or those in quarantine")] = None
    since: Annotated[Moment | None, Query(description="heard of at or after this moment")] = None
    until: Annotated[Moment | None, Query(description="heard of last before this moment")] = None
    sort: Annotated[WorkerOrder, Query(description="`seen`: by the last sign of life")] = WorkerOrder.NEWEST
    ascending: Annotated[bool, Query(description="oldest first")] = False


@router.get("/workers")
def list_workers(
    session: ReadSession, asked: Annotated[WorkerQuery, Query()], cursor: GivenCursor = None, limit: Limit = 50
) -> Page[WorkerView]:
    """All workers, the newest first unless another order is asked for."""
    given = asked.model_dump(exclude={"project", "state", "sort", "ascending"})
    project_id = service.get_project_id(session, asked.project) if asked.project else None
    filters = WorkerFilters(**given, states=asked.state, project_id=project_id)
    return service.list_workers(session, filters, asked.sort, cursor, limit, ascending=asked.ascending)


class VolunteerQuery(BaseModel):
    """The filters and the order of the list of volunteers, as they stand in addresses."""

    text: Annotated[str | None, Query(max_length=200, description="a part of the name"), CLEAN] = None
    since: Annotated[Moment | None, Query(description="joined at or after this moment")] = None
    until: Annotated[Moment | None, Query(description="joined before this moment")] = None
    role: Annotated[Role | None, Query(description="only accounts of this role")] = None
    hardware_class: Annotated[
        str | None, Query(max_length=200, description="with a worker of this hardware class"), CLEAN
    ] = None
    sort: Annotated[VolunteerOrder, Query(description="by when they joined, or by name")] = VolunteerOrder.NEWEST
    ascending: Annotated[bool, Query(description="oldest, or first by name, first")] = False


@router.get("/volunteers", tags=["volunteers"])
def list_volunteers(
    session: ReadSession, asked: Annotated[VolunteerQuery, Query()], cursor: GivenCursor = None, limit: Limit = 50
) -> Page[VolunteerView]:
    """All volunteers and what their workers did, the newest first by default."""
    filters = VolunteerFilters(**asked.model_dump(exclude={"sort", "ascending"}))
    return service.view_volunteers(session, filters, asked.sort, cursor, limit, ascending=asked.ascending)


@router.post("/workers/notices")
def take_notice(notice: WorkerNotice, token: BearerToken, session: WriteSession) -> WorkerView:
    """Report that a worker pauses, waits, goes on or ends, so that people see why nothing happens."""
    return service.take_notice(session, authenticate(session, token), notice)


@router.post("/workers/receipts")
def take_receipt(receipt: MessageReceipt, token: BearerToken, session: WriteSession) -> WorkerView:
    """Report that a message was shown in the worker's terminal, so that it is not sent again."""
    return service.take_receipt(session, authenticate(session, token), receipt)
