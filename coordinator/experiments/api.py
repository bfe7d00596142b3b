"""Experiments and runs over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from coordinator.db.database import ReadSession
from coordinator.evidence import service as evidence
from coordinator.evidence.run_stats import view_early_stops
from coordinator.experiments import service
from coordinator.experiments.queries import ExperimentFilters
from coordinator.http.pagination import Cursor, GivenCursor, Limit, RowId
from coordinator.projects import service as projects
from shared.experiments import JobKind, Standing, Verdict
from shared.findings import name_topic
from shared.protocol import API_PREFIX, CLEAN, Number, Page, Slug, Timestamp
from shared.records import ExperimentDetail, ExperimentEvidence, ExperimentSort, ExperimentSummary
from shared.runs import EarlyStops, RunView

router = APIRouter(prefix=API_PREFIX, tags=["experiments"])


Name = Annotated[str | None, Query(max_length=200), CLEAN]


class ListQuery(BaseModel):
    """The filters and the order of a list of experiments, as they stand in addresses."""

    hardware_class: Annotated[
        str | None, Query(max_length=200, description="only experiments whose first run was in this hardware class")
    ] = None
    verdict: Verdict | None = None
    standing: Standing | None = None
    axis: Annotated[
        str | None, Query(max_length=200, description="as written, or as it stands in addresses"), CLEAN
    ] = None
    branch: Name = None
    volunteer: Name = None
    kind: JobKind | None = None
    failed: Annotated[bool | None, Query(description="whether the first run failed")] = None
    text: Annotated[str | None, Query(max_length=200, description="a part of the title or the axis"), CLEAN] = None
    since: Annotated[Timestamp | None, Query(description="made at or after this moment")] = None
    until: Annotated[Timestamp | None, Query(description="made before this moment")] = None
    effect_above: Annotated[Number | None, Query(description="metric(child) − metric(parent), posterior mean")] = None
    effect_below: Annotated[Number | None, Query(description="likewise, at most")] = None
    sort: Annotated[
        ExperimentSort,
        Query(description="by `effect` or `metric` in `hardware_class`, by default the one with the most runs"),
    ] = ExperimentSort.NEWEST
    ascending: Annotated[bool, Query(description="oldest or lowest first")] = False

    def to_request(self) -> service.ListRequest:
        given = self.model_dump(exclude={"axis", "sort", "ascending"})
        topic = name_topic(self.axis) if self.axis else None
        return service.ListRequest(ExperimentFilters(topic=topic, **given), self.sort, self.ascending)


@router.get("/experiments")
def list_experiments(
    project: Slug,
    session: ReadSession,
    asked: Annotated[ListQuery, Query()],
    cursor: GivenCursor = None,
    limit: Limit = 50,
) -> Page[ExperimentSummary]:
    """A project's experiments, newest first unless another order is asked for.

    A page of a filtered list looks at 2,000 experiments at most, so it may be short; `next_cursor` goes on.
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
def list_runs(project: Slug, session: ReadSession, cursor: Cursor = None, limit: Limit = 50) -> Page[RunView]:
    """A project's runs, newest first."""
    return evidence.view_page(session, projects.get_project(session, project), cursor, limit)


@router.get("/runs/{run_id}")
def read_run(run_id: RowId, session: ReadSession) -> RunView:
    """One run with its curve and the end of its log."""
    return evidence.view_one(session, run_id)


@router.get("/projects/{name}/early-stops", tags=["projects"])
def read_early_stops(name: Slug, session: ReadSession) -> EarlyStops:
    """Time that early stopping saves, and how often it is wrong."""
    return view_early_stops(session, projects.get_project(session, name))
