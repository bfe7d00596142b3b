"""The pages. Each address is permanent and holds the view state; most have a `.json` twin with the same content."""

from collections.abc import AsyncIterable
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from coordinator.accounts.permissions import STAFF
from coordinator.background import BackgroundTasks
from coordinator.db.database import ReadSession
from coordinator.events.api import open_feed
from coordinator.events.audit import find_last_backup
from coordinator.events.feed import Feed
from coordinator.evidence import queries as evidence
from coordinator.experiments import api as experiments_api
from coordinator.experiments.filters import AskedOrder
from coordinator.findings import api as findings_api
from coordinator.findings import paper_queries
from coordinator.findings.api import Asked, TopicName
from coordinator.findings.topics import TopicQuery
from coordinator.http.errors import must_find
from coordinator.http.pagination import Cursor, GivenCursor, RowId
from coordinator.http.prefix import root
from coordinator.novelty.similarity import CurrentSimilarity
from coordinator.projects import api as projects_api
from coordinator.records.api import RunNumber
from coordinator.settings import CoordinatorSettings
from coordinator.web import (
    account_pages,
    audit_pages,
    branch_pages,
    digest_pages,
    errors,
    experiment_pages,
    me,
    project_page,
    queue_pages,
    reference,
    rendering,
    settings_page,
    sign_in,
    tree_page,
    views,
    worker_pages,
)
from coordinator.web.live import FRONT, LivePages
from coordinator.web.pictures import Plot
from coordinator.web.project_page import Context, Parts, view_now
from coordinator.web.rendering import render
from coordinator.web.sessions import Visitor
from coordinator.web.sign_in import base_url
from coordinator.workers import queries as workers
from shared.findings import FindingState
from shared.protocol import CLEAN, Slug, now

router = APIRouter(include_in_schema=False)

OpenFeed = Annotated[Feed, Depends(open_feed)]
PageState = Annotated[str, Query(max_length=40)]
HardwareClass = Annotated[str | None, Query(max_length=200)]
NO_FILTERS = frozenset({"project", "q", "cursor"})
"""Parameters of the findings page that are no filters."""

for path, handler in (
    ("/projects/{name}.json", projects_api.read_project),
    ("/experiments/{experiment_id}.json", experiments_api.read_experiment),
    ("/findings/{finding_id}.json", findings_api.read_finding),
    ("/topics/{project}/{slug}.json", findings_api.read_topic),
):
    router.add_api_route(path, handler)  # before the pages, whose paths would match it


def install_pages(app: FastAPI) -> None:
    """Adds static files, pages and error pages. Comes after `install_error_handlers`."""
    app.state.live_pages = LivePages(app.state.database)
    for part in (
        router, sign_in.router, me.router, queue_pages.router, audit_pages.router, branch_pages.router,
        account_pages.router, digest_pages.router, worker_pages.router,
        experiment_pages.router, settings_page.router, tree_page.router,
    ):  # fmt: skip
        app.router.routes.extend(part.routes)
    app.mount("/static", rendering.CachedStaticFiles(directory=rendering.STATIC_FOLDER), name="static")
    errors.install_error_pages(app)


@router.get("/")
def show_front(request: Request, session: ReadSession) -> Response:
    """The purpose of this swarm, the way to join, and its projects' standings."""
    page, parts = _get_live(request).open(FRONT, lambda: project_page.view_front(session))
    if not page["drawn"]:
        return render("projects/none.html", since=page["since"])
    settings: CoordinatorSettings = request.app.state.settings
    return render("front/front.html", front=page, parts=parts, base_url=base_url(request), joining=settings.joining)


@router.get("/projects/{name}")
def show_project(
    name: Slug,
    request: Request,
    session: ReadSession,
    hardware_class: HardwareClass = None,
    cursor: Cursor = None,
    first: RunNumber = 1,
    last: RunNumber | None = None,
) -> Response:
    """A project's progress, what happens now, and its experiments."""

    live = _get_live(request)

    def make() -> tuple[Context, Parts]:
        return project_page.view_page(session, project_page.choose(session, name, hardware_class), cursor)

    page, parts = live.open((name, hardware_class), make) if cursor is None else make()
    if cursor is not None:
        live.keep(parts)
    if first > 1 or last is not None:
        chosen = project_page.choose(session, name, hardware_class)._replace(first=first, last=last)
        page = page | project_page.view_range(session, chosen)
    return render("projects/project.html", page=page, git_url=f"{base_url(request)}/git/{name}")


def _get_live(request: Request) -> LivePages:
    live = request.app.state.live_pages
    assert isinstance(live, LivePages)
    return live


@router.get("/projects/{name}/plot")
def read_plot(
    name: Slug,
    session: ReadSession,
    hardware_class: HardwareClass = None,
    first: RunNumber = 1,
    last: RunNumber | None = None,
) -> Plot:
    """The marks of a range of a class's runs, for the plot of its page."""
    chosen = project_page.choose(session, name, hardware_class)._replace(first=first, last=last)
    return project_page.view_plot(session, chosen)


@router.get("/live", response_class=EventSourceResponse)
async def follow_front(request: Request, feed: OpenFeed, state: PageState = "") -> AsyncIterable[ServerSentEvent]:
    """Stream changes of the front page, from one that shows `state`."""
    async for changes in _get_live(request).follow(feed, FRONT, state):
        yield ServerSentEvent(raw_data=changes, event="changes")


@router.get("/projects/{name}/live", response_class=EventSourceResponse)
async def follow_project(
    name: Slug, request: Request, feed: OpenFeed, hardware_class: HardwareClass = None, state: PageState = ""
) -> AsyncIterable[ServerSentEvent]:
    """Stream changes of a project's page, from one that shows `state`."""
    async for changes in _get_live(request).follow(feed, (name, hardware_class), state):
        yield ServerSentEvent(raw_data=changes, event="changes")


@router.get("/experiments/{experiment_id}")
def show_experiment(experiment_id: RowId, session: ReadSession) -> Response:
    return render("experiments/experiment.html", page=views.view_experiment(session, experiment_id))


@router.get("/experiments/{experiment_id}/live")
def show_experiment_live(experiment_id: RowId, session: ReadSession) -> Response:
    """The parts of an experiment's page that change."""
    return render("experiments/_live.html", page=views.view_experiment_live(session, experiment_id))


@router.get("/runs/{run_id}")
def show_run(run_id: RowId, session: ReadSession) -> Response:
    """A run of the root; another run redirects to its experiment's page."""
    page = views.view_run(session, run_id)
    if page["experiment_id"] is not None:
        return RedirectResponse(f"{root()}/experiments/{page['experiment_id']}#run-{run_id}")
    return render("runs/run.html", page=page)


@router.get("/docs")
def show_reference(request: Request) -> Response:
    """All operations and messages by name."""
    document = request.app.openapi()
    groups, schemas = reference.list_operations(document), reference.list_schemas(document)
    return render("reference/reference.html", groups=groups, schemas=schemas)


@router.get("/docs/messages/{message}")
def show_message(message: str, request: Request) -> Response:
    """A message with its fields, or an enum with its values."""
    found = next((one for one in reference.list_schemas(request.app.openapi()) if one["name"] == message), None)
    return render("reference/message.html", schema=must_find(found, f"The API has no message called {message!r}."))


@router.get("/docs/{tag}")
def show_operations(tag: str, request: Request) -> Response:
    """The operations of one tag, with their parameters."""
    found = reference.list_operations(request.app.openapi()).get(tag)
    operations = must_find(found, f"The API has no part called {tag!r}.")
    return render("reference/group.html", tag=tag, operations=operations)


@router.get("/problems")
def list_problems() -> Response:
    return render("problems/list.html", types=errors.map_problem_types().values())


@router.get("/problems/{code}")
def show_problem(code: str) -> Response:
    """The meaning of a problem document's `type`."""
    found = errors.map_problem_types().get(code)
    return render("problems/type.html", type=must_find(found, f"There is no kind of problem called {code!r}."))


@router.get("/findings")
def show_findings(
    request: Request,
    session: ReadSession,
    similarity: CurrentSimilarity,
    asked: Asked,
    order: AskedOrder,
    q: Annotated[str, Query(max_length=1_000), CLEAN] = "",
    cursor: GivenCursor = None,
) -> Response:
    """Findings of a project, or of all: those that answer a question, or the newest."""
    chosen = {name: value for name, value in request.query_params.items() if name not in NO_FILTERS and value}
    page = views.view_findings(session, similarity, q.strip(), chosen, asked, order, cursor)
    return render("findings/list.html", page=page)


@router.get("/findings/{finding_id}")
def show_finding(
    finding_id: RowId,
    session: ReadSession,
    visitor: Visitor,
    version: Annotated[int | None, Query(ge=1, le=10_000)] = None,
) -> Response:
    """A finding; one that is hidden shows to moderators and maintainers."""
    is_staff = visitor is not None and visitor.role in STAFF
    page = views.view_finding(session, finding_id, version, with_hidden=is_staff)
    summary = page["paper"].summary
    is_own = visitor is not None and visitor.name == summary.volunteer
    if visitor is not None and summary.state == FindingState.RETRACTED:
        is_own = is_own and paper_queries.find_last_retractor(session, finding_id) == visitor.id
    page |= {"may_retract": is_staff or is_own, "here": f"/findings/{finding_id}/"}
    return render("findings/finding.html", page=page)


@router.get("/projects/{name}/topics")
def show_topics(
    name: Slug, session: ReadSession, asked: Annotated[TopicQuery, Query()], cursor: GivenCursor = None
) -> Response:
    """The axes along which a project was explored."""
    return render("topics/list.html", page=views.view_topics(session, name, asked, cursor))


@router.get("/topics/{project}/{slug}")
def show_topic(project: Slug, slug: TopicName, session: ReadSession, cursor: Cursor = None) -> Response:
    return render("topics/topic.html", page=views.view_topic(session, project, slug, cursor))


MAX_PACE_RUNS = 1_000
"""Number of newest results from which the pace is told."""


def _tell_rate(results: int, hours: float) -> str:
    """`12 results an hour`, or a day where that is fewer than one an hour; `results` came within these hours."""
    per_hour = results / max(hours, 1 / 60)
    return f"{per_hour:,.0f} results an hour" if per_hour >= 1 else f"{24 * per_hour:.1f} results a day"


@router.get("/status")
def show_status(request: Request, session: ReadSession) -> Response:
    """Throughput, what waits in each hardware class, background tasks, and the last verified backup."""
    tasks: BackgroundTasks = request.app.state.background
    pace = evidence.find_pace(session, MAX_PACE_RUNS)
    page = {
        "now": view_now(session, None),
        "machines": workers.count_recent(session),
        "pace": pace,
        "rate": _tell_rate(pace.runs - 1, (now() - pace.since) / timedelta(hours=1)) if pace.runs > 1 else "",
        "due": evidence.count_due_by_class(session),
        "tasks": tasks.list_health(),
        "backup": find_last_backup(session),
        "version": request.app.version,
    }
    return render("status/status.html", page=page)
