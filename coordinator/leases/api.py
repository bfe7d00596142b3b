"""Leases over HTTP: the requests of workers. Handlers render answers themselves: FastAPI would check them again."""

from functools import partial
from typing import Annotated
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Header, Request, Response, status

from coordinator.accounts.security import BearerToken
from coordinator.accounts.service import authenticate
from coordinator.db.database import CurrentDatabase, ReadSession, WriteSession
from coordinator.leases import claim as claims
from coordinator.leases import offline, proposals, results, service
from coordinator.leases.claim import check_versions
from coordinator.leases.errors import ResultConflictError
from coordinator.leases.heartbeats import CurrentHeartbeats
from coordinator.novelty.similarity import CurrentSimilarity
from coordinator.projects import service as projects
from shared.experiments import ProposalReply, ProposalSubmission
from shared.leases import (
    ClaimReply,
    ClaimRequest,
    Heartbeat,
    HeartbeatReply,
    LeaseContext,
    LeaseView,
    OfflineLease,
    ReleaseRequest,
    ResultReply,
    ResultUpload,
)
from shared.protocol import PROTOCOL_HEADER, PROTOCOL_VERSION, VERSION_HEADER, Message, Page, Slug, Versions

router = APIRouter(tags=["leases"])


async def _get_versions(request: Request) -> Versions:
    versions = request.app.state.versions
    assert isinstance(versions, Versions)
    return versions


async def _get_fitting_versions(
    versions: Annotated[Versions, Depends(_get_versions)],
    protocol: Annotated[int, Header(alias=PROTOCOL_HEADER)] = PROTOCOL_VERSION,
    version: Annotated[str | None, Header(alias=VERSION_HEADER, max_length=40)] = None,
) -> Versions:
    check_versions(protocol, version, versions)
    return versions


FittingVersions = Annotated[Versions, Depends(_get_fitting_versions)]
"""The coordinator's versions, once the worker's headers fit them. Checked before the body, whose form may differ by
version."""


async def _get_job_threads(request: Request) -> CapacityLimiter:
    threads = request.app.state.job_threads
    assert isinstance(threads, CapacityLimiter)
    return threads


JobThreads = Annotated[CapacityLimiter, Depends(_get_job_threads)]
"""Limits how many workers' requests are handled at once; pages and other reads have FastAPI's own threads."""


def _render(reply: Message, status_code: int = status.HTTP_200_OK) -> Response:
    return Response(reply.model_dump_json(), status_code, media_type="application/json")


@router.get("/leases")
def list_live_leases(project: Slug, session: ReadSession) -> Page[LeaseView]:
    """The jobs that workers hold now."""
    return Page(items=service.view_live_leases(session, projects.get_project(session, project)))


@router.get("/leases/{lease_id}/context")
def read_context(lease_id: UUID, session: ReadSession) -> LeaseContext:
    """The context pack that a lease's agent got to read."""
    return service.view_context(session, lease_id)


@router.get("/versions")
async def show_versions(versions: Annotated[Versions, Depends(_get_versions)]) -> Versions:
    """The versions of this coordinator and of the workers it gives jobs to."""
    return versions


@router.post("/leases", response_model=ClaimReply)
async def claim(
    versions: FittingVersions,
    request: ClaimRequest,
    token: BearerToken,
    threads: JobThreads,
    database: CurrentDatabase,
) -> Response:
    """Ask for a job. Nothing to do is no error: `lease` is null, with a reason and when to ask again."""
    reply = await to_thread.run_sync(claims.claim, database, token, request, versions, limiter=threads)
    return _render(reply)


@router.put("/leases/{lease_id}")
def register_own_lease(lease_id: UUID, own: OfflineLease, token: BearerToken, session: WriteSession) -> HeartbeatReply:
    """Tell of a job that a worker gave itself while this coordinator was away; its result may be delivered then."""
    return offline.register_own(session, authenticate(session, token), lease_id, own)


@router.post("/leases/{lease_id}/heartbeat", response_model=HeartbeatReply)
async def heartbeat(
    lease_id: UUID,
    beat: Heartbeat,
    token: BearerToken,
    threads: JobThreads,
    database: CurrentDatabase,
    beats: CurrentHeartbeats,
) -> Response:
    """Renew a lease and say how far the job is."""
    reply = await to_thread.run_sync(service.heartbeat, database, beats, token, lease_id, beat, limiter=threads)
    return _render(reply)


@router.post("/leases/{lease_id}/proposal", response_model=ProposalReply)
async def submit_proposal(
    lease_id: UUID,
    submission: ProposalSubmission,
    token: BearerToken,
    threads: JobThreads,
    database: CurrentDatabase,
    beats: CurrentHeartbeats,
    similarity: CurrentSimilarity,
) -> Response:
    """State what is to be tried, before it is run."""
    call = partial(proposals.submit_proposal, database, beats, similarity, token, lease_id, submission)
    return _render(await to_thread.run_sync(call, limiter=threads))


@router.post("/leases/{lease_id}/release")
def release(
    lease_id: UUID, request: ReleaseRequest, token: BearerToken, session: WriteSession, beats: CurrentHeartbeats
) -> HeartbeatReply:
    """Give a job back."""
    return service.release(session, beats, token, lease_id, request)


@router.post("/leases/{lease_id}/result", response_model=ResultReply, status_code=status.HTTP_201_CREATED)
async def deliver_result(
    lease_id: UUID,
    upload: ResultUpload,
    token: BearerToken,
    threads: JobThreads,
    database: CurrentDatabase,
    beats: CurrentHeartbeats,
    idempotency_key: Annotated[UUID, Header(description="the run's own id")],
) -> Response:
    """Deliver commit, run and finding. `201` when stored now; `200` with the stored answer when it was before."""
    if idempotency_key != upload.run.id:
        raise ResultConflictError("The header Idempotency-Key must be the run's id.")
    delivery = await to_thread.run_sync(results.deliver, database, beats, token, lease_id, upload, limiter=threads)
    return _render(delivery.reply, status.HTTP_201_CREATED if delivery.is_new else status.HTTP_200_OK)
