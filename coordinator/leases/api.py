"""Leases over HTTP: the requests of workers. Their answers are rendered here: FastAPI would check them again."""

from asyncio import get_running_loop
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Annotated, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response, status
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError

from coordinator.accounts.security import SIGNED, read_bearer
from coordinator.db.database import Database, ReadSession
from coordinator.db.engine import is_passing
from coordinator.http.addresses import find_address
from coordinator.http.parameters import KNOWN_ONLY, Moment
from coordinator.leases import claim as claims
from coordinator.leases import offline, proposals, results, service
from coordinator.leases.claim import check_versions
from coordinator.leases.errors import ResultConflictError
from coordinator.leases.heartbeats import HeldHeartbeats
from coordinator.leases.queries import LeaseFilters
from coordinator.leases.service import LeaseOrder
from coordinator.novelty.similarity import Similarity
from coordinator.projects import service as projects
from shared.experiments import JobKind, ProposalReply, ProposalSubmission
from shared.leases import (
    ClaimReply,
    ClaimRequest,
    Heartbeat,
    HeartbeatReply,
    LeaseContext,
    LeaseView,
    OfflineLease,
    Phase,
    ReleaseRequest,
    ResultReply,
    ResultUpload,
)
from shared.protocol import (
    API_PREFIX,
    CLEAN,
    MAX_COUNT,
    PROTOCOL_HEADER,
    PROTOCOL_VERSION,
    VERSION_HEADER,
    Message,
    Page,
    Slug,
    Versions,
)

T = TypeVar("T")

TRIES = 3
"""How often a request is carried out at most: what others stored in between is a worker and what it reports."""


@dataclass(frozen=True)
class Jobs:
    """Parts of the application that workers' requests need. The threads are theirs: slow pages delay no worker, and
    what stores a result delays no heartbeat, which has threads of its own."""

    database: Database
    heartbeats: HeldHeartbeats
    similarity: Similarity
    threads: Executor
    heartbeat_threads: Executor

    async def run(self, function: Callable[..., T], *args: object, threads: Executor | None = None) -> T:
        """Call a function in a thread, for which the request is the current one, too; and again where another request
        stored at that moment what must be there once, which it finds then, or held what this one waited for."""
        for left in reversed(range(TRIES)):
            try:
                in_context = partial(copy_context().run, function, *args)
                return await get_running_loop().run_in_executor(threads or self.threads, in_context)
            except DBAPIError as error:
                if not left or not is_passing(error):
                    raise
        raise AssertionError

    async def answer(
        self, function: Callable[..., Message], *args: object, threads: Executor | None = None
    ) -> Response:
        """Call a function in a thread, which also renders the message that it returns."""
        return await self.run(lambda: _render(function(*args)), threads=threads)


def _get_jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


router = APIRouter(prefix=API_PREFIX, tags=["leases"], dependencies=KNOWN_ONLY)
"""Routes are compared with a request in their order, so the most frequent stand first."""


async def _get_fitting_versions(
    request: Request,
    protocol: Annotated[int, Header(alias=PROTOCOL_HEADER, ge=0, le=MAX_COUNT)] = PROTOCOL_VERSION,
    version: Annotated[str | None, Header(alias=VERSION_HEADER, max_length=40), CLEAN] = None,
) -> Versions:
    versions: Versions = request.app.state.versions
    check_versions(protocol, version, versions)
    return versions


FittingVersions = Annotated[Versions, Depends(_get_fitting_versions)]
"""The coordinator's versions, once the worker's headers fit them. Checked before the body, whose form may differ by
version."""


def _render(reply: Message, status_code: int = status.HTTP_200_OK) -> Response:
    return Response(reply.model_dump_json(), status_code, media_type="application/json")


@router.post("/leases/{lease_id}/heartbeat", response_model=HeartbeatReply, openapi_extra=SIGNED)
async def heartbeat(lease_id: UUID, heartbeat: Heartbeat, request: Request) -> Response:
    """Renew a lease and say how far the job is."""
    jobs, token = _get_jobs(request), read_bearer(request)
    of_lease = jobs.database, jobs.heartbeats, token, lease_id, heartbeat
    return await jobs.answer(service.heartbeat, *of_lease, threads=jobs.heartbeat_threads)


@router.post("/leases/{lease_id}/proposal", response_model=ProposalReply, openapi_extra=SIGNED)
async def submit_proposal(lease_id: UUID, submission: ProposalSubmission, request: Request) -> Response:
    """State what is to be tried, before it is run."""
    jobs, token, submit = _get_jobs(request), read_bearer(request), proposals.submit_proposal
    return await jobs.answer(submit, jobs.database, jobs.heartbeats, jobs.similarity, token, lease_id, submission)


@router.post(
    "/leases/{lease_id}/result", response_model=ResultReply, status_code=status.HTTP_201_CREATED, openapi_extra=SIGNED
)
async def deliver_result(
    lease_id: UUID,
    upload: ResultUpload,
    request: Request,
    idempotency_key: Annotated[UUID, Header(description="the run's own id")],
) -> Response:
    """Deliver commit, run and finding. `201` when stored now; `200` with the stored answer when it was before."""
    if idempotency_key != upload.run.id:
        raise ResultConflictError("The header Idempotency-Key must be the run's id.")
    jobs, token = _get_jobs(request), read_bearer(request)
    delivery = await jobs.run(results.deliver, jobs.database, jobs.heartbeats, token, lease_id, upload)
    return _render(delivery.reply, status.HTTP_201_CREATED if delivery.is_new else status.HTTP_200_OK)


@router.post("/leases", response_model=ClaimReply, openapi_extra=SIGNED)
async def claim(versions: FittingVersions, asked: ClaimRequest, request: Request) -> Response:
    """Ask for a job. Nothing to do is no error: `lease` is null, with a reason and when to ask again."""
    jobs, token, version = _get_jobs(request), read_bearer(request), request.headers.get(VERSION_HEADER, "")
    return await jobs.answer(claims.claim, jobs.database, token, asked, versions, find_address(request), version)


@router.post("/leases/{lease_id}/release", response_model=HeartbeatReply, openapi_extra=SIGNED)
async def release(lease_id: UUID, asked: ReleaseRequest, request: Request) -> Response:
    """Give a job back."""
    jobs, token = _get_jobs(request), read_bearer(request)
    return await jobs.answer(service.release, jobs.database, jobs.heartbeats, token, lease_id, asked)


Name = Annotated[str | None, Query(max_length=200), CLEAN]


class LeaseQuery(BaseModel):
    """The filters and the order of the list of live jobs, as they stand in addresses."""

    kind: Annotated[JobKind | None, Query(description="only jobs of this kind")] = None
    phase: Annotated[Phase | None, Query(description="only jobs at this part of their work")] = None
    branch: Annotated[Name, Query(description="only this branch's")] = None
    hardware_class: Name = None
    worker: Annotated[Name, Query(description="its name, or `volunteer/worker`")] = None
    volunteer: Annotated[Name, Query(description="only those of this volunteer's workers")] = None
    axis: Annotated[Name, Query(description="only those whose proposal has this axis, as written")] = None
    since: Annotated[Moment | None, Query(description="given at or after this moment")] = None
    until: Annotated[Moment | None, Query(description="given before this moment")] = None
    sort: Annotated[LeaseOrder, Query(description="by when they were given, or by the last sign of life")] = (
        LeaseOrder.ISSUED
    )
    ascending: Annotated[bool, Query(description="oldest, or heard of longest ago, first")] = True


@router.get("/leases")
def list_live_leases(project: Slug, session: ReadSession, asked: Annotated[LeaseQuery, Query()]) -> Page[LeaseView]:
    """The jobs that workers hold now; of more than 200 that fit, those heard of longest ago, or last if the newest come
    first."""
    filters = LeaseFilters(**asked.model_dump(exclude={"sort", "ascending"}))
    of = projects.get_project(session, project)
    found = service.view_live_leases(session, of, filters, asked.sort, ascending=asked.ascending)
    return Page(items=found)


@router.get("/leases/{lease_id}/context")
def read_context(lease_id: UUID, session: ReadSession) -> LeaseContext:
    """The context pack that a lease's agent got to read."""
    return service.view_context(session, lease_id)


@router.get("/versions")
async def show_versions(request: Request) -> Versions:
    """The versions of this coordinator and of the workers it gives jobs to."""
    versions: Versions = request.app.state.versions
    return versions


@router.put("/leases/{lease_id}", response_model=HeartbeatReply, openapi_extra=SIGNED)
async def register_own_lease(lease_id: UUID, own: OfflineLease, request: Request) -> Response:
    """Tell of a job that a worker gave itself while this coordinator was away; its result may be delivered then."""
    jobs, token = _get_jobs(request), read_bearer(request)
    return await jobs.answer(offline.register_own, jobs.database, token, lease_id, own)
