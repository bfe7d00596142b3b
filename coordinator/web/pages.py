"""The pages' addresses. Each is permanent, has a `.json` of the same, and carries its view state in the URL."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from coordinator.db.database import ReadSession
from coordinator.experiments import service as experiments
from coordinator.http.pagination import Cursor, RowId
from coordinator.projects import service as projects
from coordinator.web import problems, reference, views
from coordinator.web.rendering import render
from shared.projects import Project
from shared.protocol import Slug
from shared.records import ExperimentDetail

router = APIRouter()

HardwareClass = Annotated[str | None, Query(max_length=200)]


@router.get("/")
def show_front(
    request: Request,
    session: ReadSession,
    project: Slug | None = None,
    hardware_class: HardwareClass = None,
    cursor: Cursor = None,
) -> Response:
    """The chosen project's page, the first one's by default."""
    known = views.view_projects(session)
    if not known:
        return render("projects/none.html", since=views.last_event_id(session))
    return show_project(project or known[0].name, request, session, hardware_class, cursor)


@router.get("/projects/{name}.json")
def read_project(name: Slug, session: ReadSession) -> Project:
    return projects.view_project(projects.get_project(session, name))


@router.get("/projects/{name}")
def show_project(
    name: Slug, request: Request, session: ReadSession, hardware_class: HardwareClass = None, cursor: Cursor = None
) -> Response:
    """A project: its progress, who works on what, and its experiments."""
    page = views.view_project(session, name, hardware_class, cursor)
    base_url = request.app.state.settings.public_url or str(request.base_url)
    return render("projects/project.html", page=page, git_url=f"{base_url.rstrip('/')}/git/{name}")


@router.get("/projects/{name}/live")
def show_live(
    name: Slug, session: ReadSession, hardware_class: HardwareClass = None, cursor: Cursor = None
) -> Response:
    """The parts of the project's page that change, for the page to patch itself with."""
    return render("projects/live.html", page=views.view_project(session, name, hardware_class, cursor))


@router.get("/experiments/{experiment_id}.json")
def read_experiment(experiment_id: RowId, session: ReadSession) -> ExperimentDetail:
    return experiments.view_detail(session, experiment_id)


@router.get("/experiments/{experiment_id}")
def show_experiment(experiment_id: RowId, session: ReadSession) -> Response:
    """An experiment: proposal, verdict, loss curve, diff, runs and finding."""
    return render("experiments/experiment.html", page=views.view_experiment(session, experiment_id))


@router.get("/runs/{run_id}")
def show_run(run_id: RowId, session: ReadSession) -> Response:
    """A run: on its experiment's page, or on its own if it measured the root."""
    experiment_id = views.find_experiment_of_run(session, run_id)
    if experiment_id is not None:
        return RedirectResponse(f"/experiments/{experiment_id}#run-{run_id}")
    return render("runs/run.html", page=views.view_run(session, run_id))


@router.get("/docs")
def show_reference(request: Request) -> Response:
    """The API's reference."""
    return render("reference/reference.html", reference=reference.view_reference(request.app.openapi()))


@router.get("/problems")
def list_problems() -> Response:
    return render("problems/list.html", types=problems.list_problem_types())


@router.get("/problems/{code}")
def show_problem(code: str) -> Response:
    """What a problem document's `type` means."""
    return render("problems/type.html", type=problems.get_problem_type(code))
