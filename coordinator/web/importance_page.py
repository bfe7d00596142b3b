"""The page of what a project's settings do: their importance, and the best experiments along them."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from coordinator.db.database import ReadSession
from coordinator.evidence.run_stats import list_hardware_classes
from coordinator.experiments import queries as experiments
from coordinator.projects import service as projects
from coordinator.selection.importances import view_importances
from coordinator.web.charts import draw_importances
from coordinator.web.parallel_picture import HEIGHT, WIDTH, ParallelRow, draw_parallel
from coordinator.web.rendering import render
from shared.protocol import Slug

router = APIRouter(include_in_schema=False)

MOST_SETTINGS, MOST_AXES, MOST_LINES = 20, 6, 120


@router.get("/projects/{name}/importance")
def show_importance(
    name: Slug, session: ReadSession, hardware_class: Annotated[str | None, Query(max_length=200)] = None
) -> Response:
    """The importance of settings over all hardware classes, and the best experiments of one class in their settings."""
    project = projects.get_project(session, name)
    objective = projects.contract_of(project).objective
    classes = list_hardware_classes(session, project.id)
    of_class = hardware_class or (classes[0].name if classes else "")
    known = view_importances(session, project, MOST_SETTINGS)
    best = experiments.list_best(session, project.id, of_class, objective.sign, MOST_LINES)
    unnamed = {one.name: one.reference for one in known.found if one.reference is not None} if known else {}
    rows = [ParallelRow(number, unnamed | settings, metric) for number, settings, metric in best]
    names = [one.name for one in known.found] if known else []
    names += sorted({setting for row in rows[:1] for setting in row.settings} - set(names))
    page = {
        "project": projects.view_project(project), "objective": objective, "here": f"/projects/{name}/importance",
        "hardware_class": of_class, "hardware_classes": classes, "known": known,
        "chart": draw_importances(known.found) if known else None,
        "picture": draw_parallel(rows, names, MOST_AXES, objective.metric, objective.sign), "lines": len(rows),
        "width": WIDTH, "height": HEIGHT,
    }  # fmt: skip
    return render("experiments/importance.html", page=page)
