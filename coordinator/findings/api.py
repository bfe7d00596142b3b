"""Findings over HTTP."""

from fastapi import APIRouter

from coordinator.db import ReadSession
from coordinator.findings import service
from coordinator.paging import Cursor, Limit, RowId
from coordinator.projects import service as projects
from shared.findings import Finding
from shared.protocol import Page, Slug

router = APIRouter(tags=["findings"])


@router.get("/findings")
def list_findings(project: Slug, session: ReadSession, cursor: Cursor = None, limit: Limit = 50) -> Page[Finding]:
    """A project's findings, newest first."""
    return service.view_page(session, projects.get_project(session, project).id, cursor, limit)


@router.get("/findings/{finding_id}")
def read_finding(finding_id: RowId, session: ReadSession) -> Finding:
    """One finding."""
    return service.view_one(session, finding_id)
