"""Experiments and runs over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query

from coordinator.db.database import ReadSession
from coordinator.evidence import service as evidence
from coordinator.evidence.run_stats import view_early_stops
from coordinator.experiments import service
from coordinator.http.pagination import Cursor, Limit, RowId
from coordinator.projects import service as projects
from shared.protocol import API_PREFIX, Page, Slug
from shared.records import ExperimentDetail, ExperimentEvidence, ExperimentSummary
from shared.runs import EarlyStops, RunView

router = APIRouter(prefix=API_PREFIX, tags=["experiments"])


@router.get("/experiments")
def list_experiments(
    project: Slug, session: ReadSession, cursor: Cursor = None, limit: Limit = 50
) -> Page[ExperimentSummary]:
    """A project's experiments, newest first."""
    return service.view_page(session, projects.get_project(session, project), cursor, limit)


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
