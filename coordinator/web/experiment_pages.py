"""Pages of several experiments: a project's list that one filters, sorts and exports; some side by side (`/compare`);
what their settings do.
"""

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from coordinator.db.database import CurrentDatabase, Database, ReadSession
from coordinator.evidence.run_stats import list_hardware_classes
from coordinator.experiments import queries, service
from coordinator.experiments.api import ListQuery
from coordinator.experiments.listing import MAX_EXAMINED
from coordinator.experiments.lookup import find_experiment_by_commit
from coordinator.experiments.service import ListRequest
from coordinator.http.downloads import send_file, write_line
from coordinator.http.errors import SwarmError
from coordinator.http.pagination import GivenCursor
from coordinator.http.prefix import root
from coordinator.lineage.branches import list_branches
from coordinator.projects import service as projects
from coordinator.records.service import compare, find_commit
from coordinator.selection.combinations import view_importances
from coordinator.web.charts import draw_effects, draw_importances
from coordinator.web.parallel_picture import HEIGHT, WIDTH, ParallelRow, draw_parallel
from coordinator.web.rendering import render
from shared.experiments import JobKind, Standing, Verdict
from shared.findings import FailureClass
from shared.protocol import Slug
from shared.records import ExperimentSort, ExperimentSummary

router = APIRouter(include_in_schema=False)

ROWS, ROWS_OF_A_FILE = 50, 500
CLASSES_OFFERED = 100
"""Number of hardware classes that the filter offers, those with the most runs first: strangers can invent more."""

CHOICES = {
    "verdict": list(Verdict),
    "standing": list(Standing),
    "kind": [kind for kind in JobKind if kind.makes_experiment],
    "failure": list(FailureClass),
}
SHOWN = {
    "kind": "Kind", "parent": "Parent", "metric": "Metric", "effect": "Effect", "verdict": "Verdict",
    "branch": "Branch", "worker": "Worker", "age": "Age", "class": "Hardware class", "axis": "Axis", "value": "Value",
    "runs": "Runs", "checkers": "Checkers", "standing": "Standing", "outcome": "First run", "commit": "Commit",
}  # fmt: skip
"""Columns that the page can show beside number and title, with their headings."""

USUAL = tuple(SHOWN)[:8]
FILE_COLUMNS = {
    "parent": ("parent_id",), "metric": ("metric_mean", "metric_sd", "runs"), "effect": ("effect_mean", "effect_sd"),
    "verdict": ("verdict", "standing", "outcome"), "age": ("done_at",), "class": ("hardware_class",),
    "commit": ("sha",),
}  # fmt: skip
"""Fields of a file for each column of the page that has others than the one of its name."""

OF_POSTERIOR = ("metric_mean", "metric_sd", "effect_mean", "effect_sd", "runs", "checkers", "verdict", "standing")


class Form(StrEnum):
    """File formats in which a list of experiments is exported."""

    CSV = "csv"
    JSON = "json"


def _read_view(request: Request) -> ListQuery:
    """The filters and the order of a form, whose empty fields are none."""
    given = {name: value for name, value in request.query_params.items() if name in ListQuery.model_fields and value}
    try:
        return ListQuery.model_validate(given)
    except ValidationError as error:
        raise RequestValidationError([one | {"loc": ("query", *one["loc"])} for one in error.errors()]) from error


View = Annotated[ListQuery, Depends(_read_view)]


def _read_columns(columns: Annotated[list[str], Query(max_length=len(SHOWN))] = []) -> tuple[str, ...]:  # noqa: B006
    """The columns of an address, in the page's order; a form has one parameter for each. Unknown ones are left out."""
    wanted = {name for given in columns for name in given.split(",")}
    return tuple(name for name in SHOWN if name in wanted) or USUAL


Columns = Annotated[tuple[str, ...], Depends(_read_columns)]


def _name_view(view: ListQuery) -> dict[str, str]:
    """The parameters of a view's address, without those that say what holds anyway."""
    given = view.model_dump(mode="json", exclude_defaults=True)
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}


@router.get("/projects/{name}/experiments")
def show_experiments(
    name: Slug, session: ReadSession, view: View, columns: Columns, cursor: GivenCursor = None
) -> Response:
    """A project's experiments that fit the filters, in the order asked for."""
    project = projects.get_project(session, name)
    asked = view.to_request().settle(session, project)
    given = _name_view(view) | ({"columns": ",".join(columns)} if columns != USUAL else {})
    page = {
        "project": projects.view_project(project),
        "objective": projects.contract_of(project).objective,
        "experiments": service.view_page(session, project, asked, cursor, ROWS),
        "is_first": cursor is None,
        "here": f"/projects/{name}/experiments",
        "view": view,
        "given": given,
        "query": urlencode(given),
        "hardware_class": asked.filters.hardware_class,
        "sorts": {sort: _order_address(given, view, sort) for sort in ExperimentSort},
        "choices": CHOICES
        | {
            "branch": [branch.name for branch in list_branches(session, project.id)],
            "hardware_class": [
                one.name
                for number, one in enumerate(list_hardware_classes(session, project.id))
                if number < CLASSES_OFFERED or one.name == asked.filters.hardware_class
            ],
        },
        "examined": MAX_EXAMINED,
        "columns": columns,
        "shown": SHOWN,
    }
    return render("experiments/list.html", page=page)


def _order_address(given: dict[str, str], view: ListQuery, sort: ExperimentSort) -> str:
    """The address of the same view in another order, or the other way round."""
    others = {name: value for name, value in given.items() if name not in ("sort", "ascending")}
    turned = {"ascending": "true"} if view.sort is sort and not view.ascending else {}
    return urlencode(others | ({} if sort == ExperimentSort.NEWEST else {"sort": sort.value}) | turned)


@router.get("/projects/{name}/commits/{sha}")
def show_commit(name: Slug, sha: str, session: ReadSession) -> Response:
    """Lead from a commit, by at least four digits of its sha, to its experiment; from the seed's to its project."""
    commit = find_commit(session, sha, projects.get_project(session, name))
    experiment = find_experiment_by_commit(session, commit.sha)
    return RedirectResponse(f"{root()}/experiments/{experiment.id}" if experiment else f"{root()}/projects/{name}", 303)


@router.get("/projects/{name}/experiments.{form}")
def export_experiments(
    name: Slug, form: Form, session: ReadSession, database: CurrentDatabase, view: View, columns: Columns
) -> Response:
    """All experiments of a view, in its order and with its columns."""
    asked = view.to_request().settle(session, projects.get_project(session, name))
    file = f"{name}-experiments.{form}"
    fields = _name_fields(columns)
    found = ({field: values[field] for field in fields} for values in map(_flatten, _list_all(database, name, asked)))
    if form == Form.CSV:
        return send_file(_write_csv(found, fields), file, "text/csv; charset=utf-8")
    return send_file(_write_json(found), file, "application/json")


def _list_all(database: Database, name: str, asked: ListRequest) -> Iterator[ExperimentSummary]:
    cursor: str | None = None
    while True:
        with database.read() as session:
            page = service.view_page(session, projects.get_project(session, name), asked, cursor, ROWS_OF_A_FILE)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return


def _name_fields(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The fields of a file: those of what was tried, as the page shows it, and of the columns beside it."""
    of_columns = (field for name in columns for field in FILE_COLUMNS.get(name, (name,)))
    return tuple(dict.fromkeys(("id", "title", "axis", "value", "quarantine", *of_columns)))


def _flatten(experiment: ExperimentSummary) -> dict[str, Any]:
    values = experiment.model_dump(mode="json")
    return values | (values["posterior"] or dict.fromkeys(OF_POSTERIOR))


def _write_csv(found: Iterator[dict[str, Any]], fields: tuple[str, ...]) -> Iterator[str]:
    yield write_line(fields)
    for values in found:
        yield write_line(list(values.values()))


def _write_json(found: Iterator[dict[str, Any]]) -> Iterator[str]:
    start = "["
    for values in found:
        yield f"{start}\n{json.dumps(values, ensure_ascii=False)}"
        start = ","
    yield "[]\n" if start == "[" else "\n]\n"


MAX_COMPARED = 8
MAX_ID = 2**31 - 1

IdText = Annotated[str, Query(max_length=200)]
OneId = Annotated[int | None, Query(ge=1, le=MAX_ID)]


class ChoiceInvalidError(
    SwarmError, status=422, code="comparison-invalid", title="These experiments cannot be compared"
):
    pass


@router.get("/compare")
def show_comparison(
    session: ReadSession, ids: Annotated[list[IdText], Query(max_length=200)] = [],  # noqa: B006
    a: OneId = None, b: OneId = None,
) -> Response:  # fmt: skip
    """Experiments side by side. `a` and `b` are the two whose files are compared, the first two by default."""
    if not "".join(ids).strip():
        return render("experiments/choose.html", most=MAX_COMPARED)
    chosen = _read_ids(ids)
    if len(ids) > 1:  # a form's boxes; the address to keep has one list
        return RedirectResponse(f"{root()}/compare?ids={','.join(map(str, chosen))}", 303)
    found = [service.view_detail(session, number) for number in chosen]
    if len({one.project for one in found}) > 1:
        raise ChoiceInvalidError("They are of different projects, whose metrics have nothing in common.")
    project = projects.get_project(session, found[0].project)
    objective = projects.contract_of(project).objective
    pair = [next((one for one in found if one.id == number), None) for number in (a, b)]
    one, other = pair[0] or found[0], pair[1] or found[1]
    return render(
        "experiments/comparison.html",
        page={
            "project": projects.view_project(project), "objective": objective, "experiments": found,
            "ids": ",".join(map(str, chosen)), "settings": service.map_settings(session, chosen),
            "chart": draw_effects(found, objective.sign), "classes": {each.hardware_class for each in found},
            "pair": (one, other), "comparison": compare(session, project.name, one.sha, other.sha),
        },
    )  # fmt: skip


def _read_ids(given: list[str]) -> list[int]:
    """The numbers of experiments, each once, in their order. Raises ChoiceInvalidError."""
    parts = [part.strip() for text in given for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and part.isascii() and 0 < int(part) <= MAX_ID for part in parts):
        raise ChoiceInvalidError("Give their numbers, separated by commas: /compare?ids=1,2,3")
    chosen = list(dict.fromkeys(map(int, parts)))
    if not 2 <= len(chosen) <= MAX_COMPARED:
        raise ChoiceInvalidError(f"Choose 2 to {MAX_COMPARED} experiments, not {len(chosen)}.")
    return chosen


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
    best = queries.list_best(session, project.id, of_class, objective.sign, MOST_LINES)
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
