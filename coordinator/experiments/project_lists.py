"""Lists of projects and of branches, filtered by what they themselves are and by the experiments that they have."""

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from coordinator.db.database import ReadSession
from coordinator.experiments.filters import FilterQuery
from coordinator.experiments.listing import keep_having
from coordinator.http.pagination import MAX_LIMIT, GivenCursor, Limit, sort_page
from coordinator.http.parameters import KNOWN_ONLY, Moment, is_within
from coordinator.lineage import branches
from coordinator.models import Experiment, Project
from coordinator.projects import lookup, service
from shared.projects import BranchSort, BranchState, BranchView, ProjectMode, ProjectSort, ProjectView
from shared.protocol import API_PREFIX, CLEAN, Page, Slug

router = APIRouter(prefix=API_PREFIX, tags=["projects"], dependencies=KNOWN_ONLY)


class ListedQuery(FilterQuery):
    """The filters that lists of projects and branches share: dates and words are their own, the others of experiments
    that they have."""

    since: Annotated[Moment | None, Query(description="begun at or after this moment")] = None
    until: Annotated[Moment | None, Query(description="begun before this moment")] = None
    ascending: Annotated[bool, Query(description="oldest or lowest first")] = False

    def keep_having(self, session: Session, project: Project, column: Any, ids: Iterable[int]) -> set[int]:
        """Those of a project's branches, or the project itself, that have an experiment which fits."""
        filters = self.to_filters(project_id=project.id, text=None, since=None, until=None)
        return set(ids) if filters.is_plain else keep_having(session, column, ids, filters)


class ProjectQuery(ListedQuery):
    """The filters and the order of the list of projects, as they stand in addresses."""

    mode: Annotated[ProjectMode | None, Query(description="only projects that give jobs so")] = None
    text: Annotated[str | None, Query(max_length=200, description="a part of name, title or question"), CLEAN] = None
    sort: Annotated[ProjectSort | None, Query(description="default: in the order in which they began")] = None

    def fits(self, session: Session, project: Project, view: ProjectView) -> bool:
        part = (self.text or "").casefold()
        return (
            self.mode in (None, view.mode)
            and is_within(project.created_at, self.since, self.until)
            and part in f"{view.name}\n{view.title}\n{view.question}".casefold()
            and bool(self.keep_having(session, project, Experiment.project_id, [project.id]))
        )


class BranchQuery(ListedQuery):
    """The filters and the order of a list of branches, as they stand in addresses."""

    state: Annotated[BranchState | None, Query(description="only branches in this state")] = None
    text: Annotated[str | None, Query(max_length=200, description="a part of name or theme"), CLEAN] = None
    sort: Annotated[BranchSort | None, Query(description="default: in the order in which they began")] = None

    def fits(self, one: BranchView) -> bool:
        is_in_time = is_within(one.created_at, self.since, self.until)
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
    """Projects, the first one first unless another order is asked for. By the filters of experiments those are listed
    that have one which fits; where many fit each filter alone, among their newest."""
    rows = [(one.id, one, service.view_project(one)) for one in lookup.list_projects(session)]
    fitting = [(number, view) for number, one, view in rows if asked.fits(session, one, view)]
    page = sort_page(fitting, lambda row: (row[0], row[0]), asked.ascending or asked.sort is None, cursor, limit)
    return Page(items=[view for _, view in page.items], next_cursor=page.next_cursor)


@router.get("/projects/{name}/branches", tags=["lineage"])
def list_branches(
    name: Slug,
    session: ReadSession,
    asked: Annotated[BranchQuery, Query()],
    cursor: GivenCursor = None,
    limit: Limit = MAX_LIMIT,
) -> Page[BranchView]:
    """The project's named research directions, the first one first unless another order is asked for. By the filters of
    experiments those are listed that have one which fits; where many fit each filter alone, among their newest."""
    project = service.get_project(session, name)
    fitting = [one for one in branches.view_branches(session, project) if asked.fits(one)]
    kept = asked.keep_having(session, project, Experiment.branch_id, [one.id for one in fitting])
    fitting = [one for one in fitting if one.id in kept]
    return sort_page(fitting, asked.read, asked.ascending or asked.sort is None, cursor, limit)
