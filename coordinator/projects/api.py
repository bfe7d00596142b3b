"""Projects, their branches and their commits over HTTP."""

from fastapi import APIRouter

from coordinator.db import ReadSession
from coordinator.lineage import service as lineage
from coordinator.projects import queries, service
from shared.projects import Branch, CommitFiles, Project
from shared.protocol import Page, Sha, Slug

router = APIRouter(tags=["projects"])


@router.get("/projects")
def list_projects(session: ReadSession) -> Page[Project]:
    """All projects."""
    return Page(items=[service.view_project(project) for project in queries.list_projects(session)])


@router.get("/projects/{name}")
def read_project(name: Slug, session: ReadSession) -> Project:
    """One project with its contract."""
    return service.view_project(service.get_project(session, name))


@router.get("/projects/{name}/branches", tags=["lineage"])
def list_branches(name: Slug, session: ReadSession) -> Page[Branch]:
    """The project's named research directions."""
    return Page(items=lineage.view_branches(session, service.get_project(session, name)))


@router.get("/projects/{name}/commits/{sha}/files", tags=["lineage"])
def read_commit_files(name: Slug, sha: Sha, session: ReadSession) -> CommitFiles:
    """All files of any commit, failures included."""
    return lineage.view_commit(session, service.get_project(session, name).id, sha)
