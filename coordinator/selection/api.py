"""How a project's work is shared out, over HTTP."""

from fastapi import APIRouter

from coordinator.db.database import ReadSession
from coordinator.projects import service as projects
from coordinator.selection import service
from shared.projects import KindShareView
from shared.protocol import API_PREFIX, Page, Slug

router = APIRouter(prefix=API_PREFIX, tags=["projects"])


@router.get("/projects/{name}/shares")
def list_shares(name: Slug, session: ReadSession) -> Page[KindShareView]:
    """The shares of the kinds of experiment, and what each gained for its time."""
    return Page(items=service.view_shares(session, projects.get_project(session, name)))
