"""Serves the shares of a project's jobs, and what findings are worth to them."""

from fastapi import APIRouter

from coordinator.db.database import ReadSession
from coordinator.http.parameters import KNOWN_ONLY
from coordinator.projects import service as projects
from coordinator.selection import job_mix
from coordinator.selection.findings_value import compare_arms
from shared.projects import FindingsValue, KindShareView
from shared.protocol import API_PREFIX, Page, Slug

router = APIRouter(prefix=API_PREFIX, tags=["projects"], dependencies=KNOWN_ONLY)


@router.get("/projects/{name}/shares")
def list_shares(name: Slug, session: ReadSession) -> Page[KindShareView]:
    """The shares of the kinds of experiment, and what each gained for its time."""
    return Page(items=job_mix.view_shares(session, projects.get_project(session, name)))


@router.get("/projects/{name}/findings-value")
def read_findings_value(name: Slug, session: ReadSession) -> FindingsValue:
    """Jobs whose agents read findings, beside jobs drawn at random to go without: duplicates, failed runs, effects."""
    return compare_arms(session, projects.get_project(session, name))
