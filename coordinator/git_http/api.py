"""The remote over HTTP: what git asks for, and the whole history as one download. Reading only."""

import zlib
from collections.abc import Iterable
from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import StreamingResponse

from coordinator.db.database import CurrentDatabase, ReadSession
from coordinator.git_http import history, negotiation, protocol, queries
from coordinator.git_http.packs import stream_pack
from coordinator.git_http.protocol import FetchRefusedError
from coordinator.http.errors import NotFoundError
from coordinator.http.limits import BodyTooLargeError
from shared.protocol import Slug

router = APIRouter(prefix="/git", include_in_schema=False)

FETCH, PUSH = "git-upload-pack", "git-receive-pack"
MAX_REQUEST_BYTES = 2 * 1024 * 1024
"""Of a fetch's request when inflated: 20,000 commits named in lines of 50 bytes, twice over."""

READ_ONLY = (
    "this remote is for reading only. Experiments come in through swarm-worker, "
    "which delivers the changed files together with their measurement."
)


def _find_project(project: Slug, session: ReadSession) -> int:
    project_id = queries.find_project_id(session, project)
    if project_id is None:
        raise NotFoundError(f"There is no project {project!r}.")
    return project_id


async def _read_request(request: Request, content_encoding: Annotated[str, Header()] = "") -> bytes:
    body = await request.body()
    if content_encoding not in ("gzip", "x-gzip"):
        return body
    inflater = zlib.decompressobj(wbits=31)
    try:
        inflated = inflater.decompress(body, MAX_REQUEST_BYTES)
    except zlib.error as error:
        raise FetchRefusedError(f"the request is not gzip: {error}") from error
    if not inflater.eof:
        raise BodyTooLargeError(f"A fetch's request has at most {MAX_REQUEST_BYTES} bytes when inflated.")
    return inflated


ProjectId = Annotated[int, Depends(_find_project)]


@router.get("/{project}.git/info/refs")
def advertise_refs(project_id: ProjectId, session: ReadSession, service: str = FETCH) -> Response:
    """The branches, for `git clone`, `git fetch` and `git ls-remote`."""
    if service != FETCH:
        return _respond(f"{PUSH}-advertisement", [protocol.announce(PUSH), protocol.frame_error(READ_ONLY)])
    refs = queries.list_branch_refs(session, project_id)
    return _respond(f"{FETCH}-advertisement", [protocol.announce(FETCH), protocol.advertise(refs)])


@router.post("/{project}.git/git-upload-pack")
def upload_pack(
    project_id: ProjectId,
    session: ReadSession,
    database: CurrentDatabase,
    body: Annotated[bytes, Depends(_read_request)],
) -> Response:
    """One request of a fetch. A refusal is written where git prints it."""
    try:
        request = protocol.parse_request(body)
        answer = negotiation.answer_fetch(session, project_id, request)
    except FetchRefusedError as error:
        return _respond(f"{FETCH}-result", [protocol.frame_error(error.detail)])
    if answer.objects is None:
        return _respond(f"{FETCH}-result", [answer.lines])
    pack = stream_pack(database, answer.objects, is_thin="thin-pack" in request.capabilities)
    return _respond(f"{FETCH}-result", chain([answer.lines], protocol.frame_pack(pack, request.capabilities)))


@router.get("/{project}.bundle")
def download_bundle(project_id: ProjectId, session: ReadSession, database: CurrentDatabase) -> Response:
    """Every commit of the project, for `git clone PROJECT.bundle`."""
    header = history.write_bundle_header(session, project_id)
    objects = history.list_history(session, project_id)
    return _respond("git-bundle", history.stream_bundle(database, header, objects))


@router.get("/{project}.pack")
def download_pack(project_id: ProjectId, session: ReadSession, database: CurrentDatabase) -> Response:
    """Every commit of the project, for `git index-pack --stdin`."""
    return _respond("git-packed-objects", stream_pack(database, history.list_history(session, project_id)))


def _respond(kind: str, chunks: Iterable[bytes]) -> StreamingResponse:
    return StreamingResponse(chunks, media_type=f"application/x-{kind}", headers={"Cache-Control": "no-cache"})
