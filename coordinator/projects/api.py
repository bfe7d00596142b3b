"""Projects, their branches and their commits over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query, status
from pydantic import BaseModel

from coordinator.accounts.security import BearerToken
from coordinator.accounts.service import authenticate
from coordinator.db.database import ReadSession, WriteSession
from coordinator.http.pagination import MAX_LIMIT, GivenCursor, Limit, sort_page
from coordinator.http.parameters import KNOWN_ONLY, Moment
from coordinator.lineage import branches
from coordinator.lineage import service as lineage
from coordinator.projects import lookup, service
from shared.experiments import MAX_STEPS
from shared.projects import (
    BranchMoveView,
    BranchRequest,
    BranchSort,
    BranchState,
    BranchView,
    CommitFiles,
    ProjectMode,
    ProjectSort,
    ProjectView,
)
from shared.protocol import API_PREFIX, CLEAN, EARLIEST, LATEST, Page, Sha, Slug

router = APIRouter(prefix=API_PREFIX, tags=["projects"], dependencies=KNOWN_ONLY)

MAX_COMMITS = 2 * MAX_STEPS
"""Each step has two."""


class ProjectQuery(BaseModel):
    """The filters and the order of the list of projects, as they stand in addresses."""

    mode: Annotated[ProjectMode | None, Query(description="only projects that give jobs so")] = None
    text: Annotated[str | None, Query(max_length=200, description="a part of name, title or question"), CLEAN] = None
    sort: Annotated[ProjectSort | None, Query(description="default: in the order in which they began")] = None
    ascending: Annotated[bool, Query(description="oldest first")] = False

    def fits(self, one: ProjectView) -> bool:
        part = (self.text or "").casefold()
        return self.mode in (None, one.mode) and part in f"{one.name}\n{one.title}\n{one.question}".casefold()


class BranchQuery(BaseModel):
    """The filters and the order of a list of branches, as they stand in addresses."""

    state: Annotated[BranchState | None, Query(description="only branches in this state")] = None
    text: Annotated[str | None, Query(max_length=200, description="a part of name or theme"), CLEAN] = None
    since: Annotated[Moment | None, Query(description="begun at or after this moment")] = None
    until: Annotated[Moment | None, Query(description="begun before this moment")] = None
    sort: Annotated[BranchSort | None, Query(description="default: in the order in which they began")] = None
    ascending: Annotated[bool, Query(description="oldest or lowest first")] = False

    def fits(self, one: BranchView) -> bool:
        is_in_time = (self.since or EARLIEST) <= one.created_at < (self.until or LATEST)
        part = (self.text or "").casefold()
        return is_in_time and self.state in (None, one.state) and part in f"{one.name}\n{one.theme}".casefold()

    def read(self, one: BranchView) -> tuple[float, int]:
        """The value that orders a branch, and its number."""
        values = {BranchSort.EXPERIMENTS: one.experiments, BranchSort.WITHOUT_GAIN: one.experiments_without_gain}
        return values.get(self.sort, one.id) if self.sort else one.id, one.id


@router.get("/projects")
def list_projects(
    session: ReadSession, asked: Annotated[ProjectQuery, Query()], cursor: GivenCursor = None, limit: Limit = MAX_LIMIT
) -> Page[ProjectView]:
    """Projects, the first one first unless another order is asked for."""
    rows = [(number, service.view_project(one)) for number, one in enumerate(lookup.list_projects(session))]
    fitting = [row for row in rows if asked.fits(row[1])]
    page = sort_page(fitting, lambda row: (row[0], row[0]), asked.ascending or asked.sort is None, cursor, limit)
    return Page(items=[view for _, view in page.items], next_cursor=page.next_cursor)


@router.get("/projects/{name}")
def read_project(name: Slug, session: ReadSession) -> ProjectView:
    """One project with its contract."""
    return service.view_project(service.get_project(session, name))


@router.get("/projects/{name}/branches", tags=["lineage"])
def list_branches(
    name: Slug,
    session: ReadSession,
    asked: Annotated[BranchQuery, Query()],
    cursor: GivenCursor = None,
    limit: Limit = MAX_LIMIT,
) -> Page[BranchView]:
    """The project's named research directions, the first one first unless another order is asked for."""
    fitting = [one for one in branches.view_branches(session, service.get_project(session, name)) if asked.fits(one)]
    return sort_page(fitting, asked.read, asked.ascending or asked.sort is None, cursor, limit)


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
