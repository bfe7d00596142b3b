"""Serves the shares of a project's jobs."""

from fastapi import APIRouter

from coordinator.db.database import ReadSession
from coordinator.projects import service as projects
from coordinator.selection import job_mix
from shared.projects import KindShareView
from shared.protocol import API_PREFIX, Page, Slug

router = APIRouter(prefix=API_PREFIX, tags=["projects"])


@router.get("/projects/{name}/shares")
def list_shares(name: Slug, session: ReadSession) -> Page[KindShareView]:
    """The shares of the kinds of experiment, and what each gained for its time."""
    return Page(items=job_mix.view_shares(session, projects.get_project(session, name)))
