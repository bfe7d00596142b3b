"""The read-only git remote over HTTP, and the whole history as one download."""

import zlib
from collections.abc import Generator, Iterable
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from coordinator.db.database import CurrentDatabase, ReadSession
from coordinator.git_http import negotiation, packs, protocol, queries
from coordinator.git_http.protocol import FetchRefusedError
from coordinator.http.errors import BodyTooLargeError
from coordinator.projects import service as projects
from shared.protocol import Slug

router = APIRouter(prefix="/git", include_in_schema=False)

FETCH, PUSH = "git-upload-pack", "git-receive-pack"
MAX_REQUEST_BYTES = 2 * 1024 * 1024
"""Maximum bytes of a fetch's inflated request: twice as many as 20,000 lines of 50 bytes take."""

READ_ONLY = (
    "this remote is for reading only. Experiments come in through swarm-worker, "
    "which delivers the changed files together with their measurement."
)


def _find_project(project: Slug, session: ReadSession) -> int:
    return projects.get_project(session, project).id


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
    """Answers one request of a fetch. Git prints a refusal as a remote error."""
    try:
        request = protocol.parse_request(body)
        lines, objects = negotiation.answer_fetch(session, project_id, request)
    except FetchRefusedError as error:
        return _respond(f"{FETCH}-result", [protocol.frame_error(error.detail)])
    if objects is None:
        return _respond(f"{FETCH}-result", [lines])
    pack = packs.stream_pack(database, objects, is_thin="thin-pack" in request.capabilities)
    return _respond(f"{FETCH}-result", chain([lines], protocol.frame_pack(pack, request.capabilities)))


@router.get("/{project}.bundle")
def download_bundle(project_id: ProjectId, session: ReadSession, database: CurrentDatabase) -> Response:
    """Every commit of the project, for `git clone PROJECT.bundle`."""
    header = packs.write_bundle_header(session, project_id)
    objects = packs.list_history(session, project_id)
    return _respond("git-bundle", packs.stream_bundle(database, header, objects))


@router.get("/{project}.pack")
def download_pack(project_id: ProjectId, session: ReadSession, database: CurrentDatabase) -> Response:
    """Every commit of the project, for `git index-pack --stdin`."""
    return _respond("git-packed-objects", packs.stream_pack(database, packs.list_history(session, project_id)))


def _respond(kind: str, chunks: Iterable[bytes]) -> StreamingResponse:
    return _ClosedStream(chunks, media_type=f"application/x-{kind}", headers={"Cache-Control": "no-cache"})


class _ClosedStream(StreamingResponse):
    """A stream that closes its generator, and with it temporary files, when the reader leaves early."""

    def __init__(self, chunks: Iterable[bytes], **given: Any) -> None:
        super().__init__(chunks, **given)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if isinstance(self._chunks, Generator):
                self._chunks.close()
