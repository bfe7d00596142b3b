"""Exports over HTTP: streams, of whatever length."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from coordinator.db.database import CurrentDatabase, ReadSession
from coordinator.experiments.filters import FilterQuery
from coordinator.export import formats, service
from coordinator.export.formats import MEDIA_TYPES
from coordinator.http.downloads import send_file
from coordinator.http.pagination import RowId
from coordinator.http.parameters import KNOWN_ONLY
from coordinator.projects import service as projects
from shared.export import ExportFormat, ExportTable
from shared.protocol import API_PREFIX, Slug, now

router = APIRouter(prefix=API_PREFIX, tags=["export"], dependencies=KNOWN_ONLY)


@router.get("/projects/{name}/export/results.tsv", response_class=StreamingResponse)
def export_results(
    name: Slug,
    database: CurrentDatabase,
    hardware_class: Annotated[
        str | None, Query(max_length=200, description="default: the one with the most runs")
    ] = None,
) -> Response:
    """A `results.tsv` of the original autoresearch form; an imported session's rows are as they were, byte for byte."""
    with database.read() as session:
        project = projects.get_project(session, name)
        chosen = service.choose_class(session, project, hardware_class)
        lines = service.export_results(database, session, project, chosen)
    return send_file(lines, f"{name}-results.tsv", "text/tab-separated-values; charset=utf-8")


@router.get("/projects/{name}/export/{table}.{format}", response_class=StreamingResponse)
def export_table(
    name: Slug,
    table: ExportTable,
    format: ExportFormat,
    database: CurrentDatabase,
    asked: Annotated[FilterQuery, Query()],
) -> Response:
    """A project's experiments, runs, findings, citations or promotions, as JSON lines, CSV or Parquet: all of them, or
    by filters those of experiments that fit."""
    with database.read() as session:
        project = projects.get_project(session, name)
        filters = asked.to_filters(project_id=project.id, first_class=asked.hardware_class)
        rows = service.export_table(database, session, project, table, format, filters)
    return send_file(rows, f"{name}-{table}.{format}", MEDIA_TYPES[format])


@router.get("/findings/{finding_id}/bibtex", tags=["findings"], response_class=Response)
def cite_finding(finding_id: RowId, request: Request, session: ReadSession) -> Response:
    """A finding as a BibTeX entry, with the address at which it stays where the coordinator has a public one."""
    state, today = request.app.state, f"numbers as of {now():%Y-%m-%d}"
    address = state.settings.public_url and state.settings.base_url
    entry = formats.cite(session, finding_id, address, state.snapshot or today)
    return Response(entry, media_type="application/x-bibtex; charset=utf-8")
