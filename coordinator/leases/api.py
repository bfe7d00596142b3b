"""Leases over HTTP: what workers speak. Answers are rendered here, in the handler's thread, and not checked again."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response, status

from coordinator.accounts.security import BearerToken
from coordinator.accounts.service import authenticate
from coordinator.db.database import CurrentDatabase, ReadSession
from coordinator.findings.candidates import CurrentShelf
from coordinator.leases import claim as claims
from coordinator.leases import offline, proposals, results, service, views
from coordinator.leases.errors import ResultConflictError
from coordinator.leases.heartbeats import CurrentBeats
from coordinator.leases.routing import FittingVersions, JobRoute
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
from shared.protocol import API_PREFIX, Message, Page, Slug, Versions

router = APIRouter(tags=["leases"])
jobs = APIRouter(prefix=API_PREFIX, tags=["leases"], route_class=JobRoute)
"""What workers send all day; these routes stand in the application as they are."""


def _render(reply: Message, status_code: int = status.HTTP_200_OK) -> Response:
    return Response(reply.model_dump_json(), status_code, media_type="application/json")


@router.get("/leases")
def list_live_leases(project: Slug, session: ReadSession) -> Page[LeaseView]:
    """Who works on what right now."""
    return Page(items=views.view_live_leases(session, projects.get_project(session, project)))


@router.get("/leases/{lease_id}/context")
def read_context(lease_id: UUID, session: ReadSession) -> LeaseContext:
    """What the agent of a lease got to read before it proposed."""
    return views.view_context(session, lease_id)


@router.get("/versions")
async def show_versions(request: Request) -> Versions:
    """What this coordinator speaks, and which workers it gives jobs to."""
    versions = request.app.state.versions
    assert isinstance(versions, Versions)
    return versions


@jobs.post("/leases", response_model=ClaimReply)
def claim(
    versions: FittingVersions, request: ClaimRequest, token: BearerToken, database: CurrentDatabase, shelf: CurrentShelf
) -> Response:
    """Ask for a job. Nothing to do is no error: `lease` is null, with a reason and when to ask again."""
    with database.look_and_write() as (read, write):
        reply = claims.claim(read, write, shelf, authenticate(read, token), request, versions)
    return _render(reply)


@router.put("/leases/{lease_id}")
def register_own_lease(
    lease_id: UUID, own: OfflineLease, token: BearerToken, database: CurrentDatabase
) -> HeartbeatReply:
    """Tell of a job that a worker gave itself while this coordinator was away; its result may be delivered then."""
    with database.look_and_write() as (read, write):
        return offline.register_own(read, write, authenticate(read, token), lease_id, own)


@jobs.post("/leases/{lease_id}/heartbeat", response_model=HeartbeatReply)
def heartbeat(
    lease_id: UUID, beat: Heartbeat, token: BearerToken, database: CurrentDatabase, beats: CurrentBeats
) -> Response:
    """Renew a lease and say how far the job is."""
    with database.look_and_write() as (read, write):
        reply = service.heartbeat(read, write, beats, token, lease_id, beat)
    return _render(reply)


@jobs.post("/leases/{lease_id}/proposal", response_model=ProposalReply)
def submit_proposal(
    lease_id: UUID,
    submission: ProposalSubmission,
    token: BearerToken,
    database: CurrentDatabase,
    beats: CurrentBeats,
    similarity: CurrentSimilarity,
) -> Response:
    """State what is to be tried, before it is run."""
    with database.look_and_write() as (read, write):
        reply = proposals.submit_proposal(read, write, beats, similarity, token, lease_id, submission)
    return _render(reply)


@jobs.post("/leases/{lease_id}/release", response_model=HeartbeatReply)
def release(
    lease_id: UUID, request: ReleaseRequest, token: BearerToken, database: CurrentDatabase, beats: CurrentBeats
) -> Response:
    """Give a job back."""
    with database.look_and_write() as (read, write):
        reply = service.release(read, write, beats, token, lease_id, request)
    return _render(reply)


@jobs.post("/leases/{lease_id}/result", response_model=ResultReply, status_code=status.HTTP_201_CREATED)
def deliver_result(
    lease_id: UUID,
    upload: ResultUpload,
    token: BearerToken,
    database: CurrentDatabase,
    beats: CurrentBeats,
    idempotency_key: Annotated[UUID, Header(description="the run's own id")],
) -> Response:
    """Deliver commit, run and finding. `201` when stored now; `200` with the stored answer when it was before."""
    if idempotency_key != upload.run.id:
        raise ResultConflictError("The header Idempotency-Key must be the run's id.")
    with database.look_and_write() as (read, write):
        delivery = results.deliver(read, write, beats, token, lease_id, upload)
    return _render(delivery.reply, status.HTTP_201_CREATED if delivery.is_new else status.HTTP_200_OK)
