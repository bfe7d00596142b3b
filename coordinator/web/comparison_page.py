"""`/compare`: experiments of one project side by side, and what two of them changed against each other."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import RedirectResponse

from coordinator.db.database import ReadSession
from coordinator.experiments import service as experiments
from coordinator.http.errors import SwarmError
from coordinator.http.prefix import root
from coordinator.projects import service as projects
from coordinator.records.service import compare
from coordinator.web.charts import draw_effects
from coordinator.web.rendering import render

router = APIRouter(include_in_schema=False)

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
    found = [experiments.view_detail(session, number) for number in chosen]
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
            "ids": ",".join(map(str, chosen)), "settings": experiments.map_settings(session, chosen),
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
        raise ChoiceInvalidError(f"Choose 2 to {MAX_COMPARED} experiments; these are {len(chosen)}.")
    return chosen
