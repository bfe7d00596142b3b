"""Projects, their branches and their commits over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query, status

from coordinator.accounts.security import BearerToken
from coordinator.accounts.service import authenticate
from coordinator.db.database import ReadSession, WriteSession
from coordinator.http.parameters import KNOWN_ONLY
from coordinator.lineage import branches
from coordinator.lineage import service as lineage
from coordinator.projects import service
from shared.experiments import MAX_STEPS
from shared.projects import BranchMoveView, BranchRequest, BranchView, CommitFiles, ProjectView
from shared.protocol import API_PREFIX, Page, Sha, Slug

router = APIRouter(prefix=API_PREFIX, tags=["projects"], dependencies=KNOWN_ONLY)

MAX_COMMITS = 2 * MAX_STEPS
"""Each step has two."""


@router.get("/projects/{name}")
def read_project(name: Slug, session: ReadSession) -> ProjectView:
    """One project with its contract."""
    return service.view_project(service.get_project(session, name))


@router.post("/projects/{name}/branches", status_code=status.HTTP_201_CREATED, tags=["lineage"])
def name_branch(name: Slug, request: BranchRequest, token: BearerToken, session: WriteSession) -> BranchView:
    """Name a research direction: volunteers may choose it, and while it lives it keeps a minimum of the jobs."""
    return service.request_branch(session, authenticate(session, token), name, request)


@router.get("/projects/{name}/branches/{branch}/log", tags=["lineage"])
def read_branch_log(name: Slug, branch: Slug, session: ReadSession) -> Page[BranchMoveView]:
    """The moves of a branch: created, moved, paused or resumed, with account and reason."""
    return Page(items=branches.view_log(session, service.get_project(session, name), branch))


@router.get("/projects/{name}/commits/editable", tags=["lineage"])
def read_editable_files(
    name: Slug, sha: Annotated[list[Sha], Query(min_length=1, max_length=MAX_COMMITS)], session: ReadSession
) -> Page[CommitFiles]:
    """The editable files of several commits: what is needed to re-apply what one changed against the other."""
    return Page(items=service.view_editable(session, service.get_project(session, name), sha))


@router.get("/projects/{name}/commits/{sha}/files", tags=["lineage"])
def read_commit_files(name: Slug, sha: Sha, session: ReadSession) -> CommitFiles:
    """All files of any commit, failures included."""
    return lineage.view_commit(session, service.get_project(session, name).id, sha)
