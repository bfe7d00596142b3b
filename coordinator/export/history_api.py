"""The history of a project over HTTP: its checkpoint, proofs, and the whole log."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from coordinator.db.database import CurrentDatabase, ReadSession
from coordinator.events import history
from coordinator.export.formats import MEDIA_TYPES
from coordinator.http.downloads import send_file
from coordinator.http.errors import NotFoundError
from coordinator.http.pagination import RowId
from coordinator.http.parameters import KNOWN_ONLY
from coordinator.projects import service as projects
from shared.export import HISTORY_FILE, ExportFormat
from shared.history import ConsistencyProof, InclusionProof
from shared.merkle import list_consistency, list_inclusion
from shared.protocol import API_PREFIX, MAX_COUNT, Slug

router = APIRouter(prefix=f"{API_PREFIX}/projects/{{name}}", tags=["history"], dependencies=KNOWN_ONLY)
Size = Annotated[int, Query(ge=0, le=MAX_COUNT)]


@router.get("/history/checkpoint", response_class=Response)
def get_checkpoint(name: Slug, session: ReadSession) -> Response:
    """The signed root of the log as it is now, a C2SP checkpoint. Keep it, to compare a later log with it."""
    return Response(history.get_head(session, projects.get_project(session, name)).note, media_type="text/plain")


@router.get("/history/inclusion/{run_id}")
def prove_inclusion(name: Slug, run_id: RowId, session: ReadSession) -> InclusionProof:
    """A proof that a run is in the log of the newest checkpoint."""
    project = projects.get_project(session, name)
    head, entry = history.get_head(session, project), history.get_entry_of_run(session, project, run_id)
    assert entry.number is not None and entry.leaf is not None
    hashes = history.hash_ranges(session, project.id, list_inclusion(entry.number, head.size))
    return InclusionProof(number=entry.number, leaf=entry.leaf, hashes=hashes, checkpoint=head.note)


@router.get("/history/consistency")
def prove_consistency(
    name: Slug, session: ReadSession, since: Annotated[Size, Query(description="Number of leaves of the older log.")]
) -> ConsistencyProof:
    """A proof that the log of the newest checkpoint begins with that of an older one."""
    project = projects.get_project(session, name)
    head = history.get_head(session, project)
    if since > head.size:
        raise NotFoundError(f"The history of {name} has {head.size} entries, fewer than {since}.")
    hashes = history.hash_ranges(session, project.id, list_consistency(since, head.size))
    return ConsistencyProof(since=since, hashes=hashes, checkpoint=head.note)


@router.get(f"/export/{HISTORY_FILE}", response_class=StreamingResponse)
def export_history(
    name: Slug,
    database: CurrentDatabase,
    session: ReadSession,
    size: Annotated[
        Size | None, Query(description="Number of leaves; by default those of the newest checkpoint.")
    ] = None,
) -> StreamingResponse:
    """All leaves of the log, a line each. The hash of a leaf is SHA-256 of a zero byte and its line."""
    project = projects.get_project(session, name)
    head = history.get_head(session, project)
    lines = history.stream_lines(database, project.id, min(size if size is not None else head.size, head.size))
    return send_file(lines, f"{name}-{HISTORY_FILE}", MEDIA_TYPES[ExportFormat.JSONL])
