"""Digests as pages, as Markdown and as an Atom feed (RFC 4287)."""

import re
from uuid import NAMESPACE_URL, uuid5

from fastapi import APIRouter, Request, Response

from coordinator.db.database import ReadSession
from coordinator.projects import service as projects
from coordinator.records import digest as digests
from coordinator.settings import CoordinatorSettings
from coordinator.web.rendering import ALLOWED_TAGS, render, render_markdown, render_part
from shared.digests import Digest, Week
from shared.protocol import Slug

router = APIRouter(include_in_schema=False)

FEED_ENTRIES = 20
_NO_XML = re.compile("[\ufffe\uffff]")
"""Characters that no XML document may hold; its others are in no text here."""


@router.get("/projects/{name}/digests.atom")
def show_feed(name: Slug, request: Request, session: ReadSession) -> Response:
    """The newest weeks that are over, as an Atom feed. Ids follow from the project's root commit, so they stay when the
    coordinator moves."""
    project, base_url = projects.get_project(session, name), _base_url(request)
    final = digests.list_final(session, project, FEED_ENTRIES)
    feed = render_part(
        "digests/feed.xml",
        project=project,
        base_url=base_url,
        updated=max((one.made_at for one in final), default=project.created_at),
        entries=[
            (one, render_markdown(_write_markdown(one, base_url), tags=ALLOWED_TAGS | {"h1", "h2"})) for one in final
        ],
        make_id=lambda week: uuid5(NAMESPACE_URL, f"{project.root_sha}/{project.name}/{week}").urn,
    )
    return Response(_NO_XML.sub("", feed), media_type="application/atom+xml")


@router.get("/projects/{name}/digests")
def show_weeks(name: Slug, session: ReadSession) -> Response:
    """The weeks of a project that have a digest."""
    project = projects.get_project(session, name)
    return render(
        "digests/list.html", project=projects.view_project(project), weeks=digests.list_weeks(session, project)
    )


@router.get("/projects/{name}/digests/{week}.md")
def show_markdown(name: Slug, week: Week, request: Request, session: ReadSession) -> Response:
    digest = digests.get_digest(session, projects.get_project(session, name), week)
    return Response(_write_markdown(digest, _base_url(request)), media_type="text/markdown")


@router.get("/projects/{name}/digests/{week}")
def show_digest(name: Slug, week: Week, session: ReadSession) -> Response:
    """The digest of a week."""
    project = projects.get_project(session, name)
    return render(
        "digests/digest.html", project=projects.view_project(project), digest=digests.get_digest(session, project, week)
    )


def _base_url(request: Request) -> str:
    settings: CoordinatorSettings = request.app.state.settings
    return settings.base_url


def _write_markdown(digest: Digest, base_url: str) -> str:
    """The digest as CommonMark."""
    return render_part("digests/digest.md", digest=digest, base_url=base_url)
