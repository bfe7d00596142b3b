"""The addresses of findings and topics. Each is permanent, has a `.json` of the same, and carries its view state."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from coordinator.db.database import ReadSession
from coordinator.findings import papers, topics
from coordinator.findings.api import Filters, TopicName
from coordinator.http.pagination import Cursor, RowId
from coordinator.novelty.similarity import CurrentSimilarity
from coordinator.projects import service as projects
from coordinator.web import finding_views
from coordinator.web.rendering import render
from shared.findings import Paper
from shared.protocol import Slug
from shared.topics import Topic

router = APIRouter()

JsonName = Annotated[str, Path(min_length=1, max_length=80)]
NO_FILTERS = frozenset({"project", "q", "cursor"})


@router.get("/findings")
def show_findings(
    request: Request,
    session: ReadSession,
    similarity: CurrentSimilarity,
    project: Slug,
    filters: Filters,
    q: Annotated[str, Query(max_length=1_000)] = "",
    cursor: Cursor = None,
) -> Response:
    """A project's findings: those that answer a question, or the newest."""
    chosen = {name: value for name, value in request.query_params.items() if name not in NO_FILTERS and value}
    page = finding_views.view_findings(session, similarity, project, q.strip(), chosen, filters, cursor)
    return render("findings/list.html", page=page)


@router.get("/findings/{finding_id}.json")
def read_finding(finding_id: RowId, session: ReadSession) -> Paper:
    return papers.view_paper(session, finding_id)


@router.get("/findings/{finding_id}")
def show_finding(
    finding_id: RowId, session: ReadSession, version: Annotated[int | None, Query(ge=1, le=10_000)] = None
) -> Response:
    """A finding, with its evidence as of now."""
    return render("findings/finding.html", page=finding_views.view_paper(session, finding_id, version))


@router.get("/projects/{name}/topics")
def show_topics(name: Slug, session: ReadSession, cursor: Cursor = None) -> Response:
    """The axes along which a project was explored."""
    return render("topics/list.html", page=finding_views.view_topics(session, name, cursor))


@router.get("/topics/{project}/{slug}.json")
def read_topic(project: Slug, slug: JsonName, session: ReadSession) -> Topic:
    return topics.view_topic(session, projects.get_project(session, project), slug)


@router.get("/topics/{project}/{slug}")
def show_topic(project: Slug, slug: TopicName, session: ReadSession) -> Response:
    """What is known along an axis."""
    return render("topics/topic.html", page=finding_views.view_topic(session, project, slug))
