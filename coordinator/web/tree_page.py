"""The page of a project's tree, and the same as columns for the script that draws it."""

import json
from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from coordinator.db.cache import TimedCache
from coordinator.db.database import ReadSession
from coordinator.evidence.run_stats import list_hardware_classes
from coordinator.http.errors import NotFoundError
from coordinator.http.reading import JSON
from coordinator.models import Experiment, Project
from coordinator.projects import service as projects
from coordinator.records import progress
from coordinator.records.service import view_lineage
from coordinator.records.tree import DRAWN, LISTED, MOST_NODES, ProjectTree, TreeSize, view_tree
from coordinator.web import project_page
from coordinator.web.charts import draw_waterfall
from coordinator.web.rendering import render
from shared.protocol import Slug

router = APIRouter(include_in_schema=False)

WATERFALL_STEPS = 24
TITLE = 60
"""Characters of a title that the script gets."""

DRAWN_SECONDS = 5.0
"""Longest age of what the script gets: all who look at a tree get what was made for the first of them."""

_drawn = TimedCache[tuple[str, str | None, int | None], bytes](16)

HardwareClass = Annotated[str | None, Query(max_length=200)]
Below = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
"""Number of the experiment whose descendants are shown."""


def _read(
    session: Session, name: str, hardware_class: str | None, below: int | None, size: TreeSize
) -> tuple[Project, str | None, ProjectTree]:
    project, hardware_class = project_page.choose(session, name, hardware_class)[:2]
    start = None
    if below is not None:
        experiment = session.get(Experiment, below)
        if experiment is None or experiment.project_id != project.id:
            raise NotFoundError(f"The project {name} has no experiment {below}.")
        start = experiment.commit_sha
    return project, hardware_class, view_tree(session, project, hardware_class, start, size)


@router.get("/projects/{name}/tree")
def show_tree(name: Slug, session: ReadSession, hardware_class: HardwareClass = None, below: Below = None) -> Response:
    """The tree as a picture and a list, and the way to the record step by step."""
    project, of_class, tree = _read(session, name, hardware_class, below, LISTED)
    objective = projects.contract_of(project).objective
    steps = view_lineage(session, tree.best_sha, of_class, None, WATERFALL_STEPS).items[::-1] if tree.best_sha else []
    classes = list_hardware_classes(session, project.id)
    page = {
        "project": projects.view_project(project), "objective": objective, "here": f"/projects/{name}/tree",
        "hardware_class": of_class, "hardware_classes": classes, "tree": tree, "below": below,
        "waterfall": draw_waterfall(steps, objective.sign), "before": steps[0].depth if steps else 0,
        "most_nodes": MOST_NODES, "experiments": progress.count_experiments(session, project.id),
    }  # fmt: skip
    return render("projects/tree.html", page=page)


@router.get("/projects/{name}/tree.json")
def read_tree(name: Slug, session: ReadSession, hardware_class: HardwareClass = None, below: Below = None) -> Response:
    """The nodes of the tree in preorder, by columns."""
    asked = name, hardware_class, below
    return Response(_drawn.read(session, asked, DRAWN_SECONDS, lambda: _draw(session, *asked)), media_type=JSON)


def _draw(session: Session, name: str, hardware_class: str | None, below: int | None) -> bytes:
    nodes = _read(session, name, hardware_class, below, DRAWN)[2].nodes
    columns = {
        "experiments": [node.row.experiment_id or 0 for node in nodes],
        "parents": [node.parent for node in nodes],
        "skipped": [node.skipped for node in nodes],
        "hidden": [node.hidden for node in nodes],
        "titles": [(node.row.title or "The project's seed")[:TITLE] for node in nodes],
        "effects": [_round(node.row.effect_mean) for node in nodes],
        "sds": [_round(node.row.effect_sd) for node in nodes],
        "verdicts": [node.row.verdict for node in nodes],
        "standings": [node.row.standing for node in nodes],
        "path": [int(node.is_on_path) for node in nodes],
    }
    return json.dumps(columns, separators=(",", ":"), ensure_ascii=False).encode()


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
