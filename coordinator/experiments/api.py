"""Experiments and runs over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.db.database import ReadSession
from coordinator.evidence import service as evidence
from coordinator.evidence.run_stats import view_early_stops
from coordinator.experiments import run_lists, service
from coordinator.experiments.filters import FilterQuery, Order
from coordinator.experiments.run_lists import RunQuery
from coordinator.http.pagination import GivenCursor, Limit, RowId
from coordinator.http.parameters import KNOWN_ONLY
from coordinator.projects import service as projects
from shared.protocol import API_PREFIX, Page, Slug
from shared.records import ExperimentDetail, ExperimentEvidence, ExperimentSort, ExperimentSummary
from shared.runs import MAX_CURVE_POINTS, EarlyStops, RunCurve, RunView

router = APIRouter(prefix=API_PREFIX, tags=["experiments"], dependencies=KNOWN_ONLY)


class ListQuery(FilterQuery):
    """The filters and the order of a list of experiments, as they stand in addresses."""

    hardware_class: Annotated[
        str | None, Query(max_length=200, description="only experiments whose first run was in this hardware class")
    ] = None
    sort: Annotated[
        ExperimentSort, Query(description="by numbers in `hardware_class`, by default the one with the most runs")
    ] = ExperimentSort.NEWEST
    ascending: Annotated[bool, Query(description="oldest or lowest first; the worst first by `best`")] = False

    def to_request(self) -> service.ListRequest:
        return service.ListRequest(self.to_filters(), Order(self.sort, self.ascending))


@router.get("/experiments")
def list_experiments(
    project: Slug,
    session: ReadSession,
    asked: Annotated[ListQuery, Query()],
    cursor: GivenCursor = None,
    limit: Limit = 50,
) -> Page[ExperimentSummary]:
    """A project's experiments, newest first unless another order is asked for. `sort=best&limit=10` are the ten best.

    Where every filter alone fits more than 2,000, a page may be short; `next_cursor` goes on.
    """
    return service.view_page(session, projects.get_project(session, project), asked.to_request(), cursor, limit)


@router.get("/experiments/{experiment_id}")
def read_experiment(experiment_id: RowId, session: ReadSession) -> ExperimentDetail:
    """One experiment with its proposal, diff, runs and finding."""
    return service.view_detail(session, experiment_id)


@router.get("/experiments/{experiment_id}/evidence")
def read_evidence(
    experiment_id: RowId,
    session: ReadSession,
    hardware_class: Annotated[str | None, Query(max_length=200, description="default: its first run's")] = None,
) -> ExperimentEvidence:
    """Why an experiment's verdict is what it is: runs, offsets, posterior before and after, what would change it."""
    return service.view_evidence(session, experiment_id, hardware_class)


@router.get("/runs")
def list_runs(
    project: Slug,
    session: ReadSession,
    asked: Annotated[RunQuery, Query()],
    cursor: GivenCursor = None,
    limit: Limit = 50,
) -> Page[RunView]:
    """A project's runs with their reports, newest first unless another order is asked for."""
    return run_lists.view_page(session, projects.get_project(session, project), asked, cursor, limit)


@router.get("/curves")
def list_curves(
    project: Slug,
    session: ReadSession,
    asked: Annotated[RunQuery, Query()],
    points: Annotated[int, Query(ge=2, le=MAX_CURVE_POINTS, description="points of a curve at most")] = 100,
    cursor: GivenCursor = None,
    limit: Limit = 50,
) -> Page[RunCurve]:
    """The training curves of the runs that `/runs` would list, without the rest of their reports."""
    return run_lists.view_curves(session, projects.get_project(session, project), asked, points, cursor, limit)


@router.get("/runs/{run_id}")
def read_run(run_id: RowId, session: ReadSession) -> RunView:
    """One run with its curve and the end of its log."""
    return evidence.view_one(session, run_id)


@router.get("/projects/{name}/early-stops", tags=["projects"])
def read_early_stops(name: Slug, session: ReadSession) -> EarlyStops:
    """Time that early stopping saves, and how often it is wrong."""
    return view_early_stops(session, projects.get_project(session, name))
