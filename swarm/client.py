"""A typed client of the coordinator's public API. Reading needs no account."""

from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from shared.errors import Problem
from shared.experiments import ExperimentDetail, ExperimentSummary
from shared.leases import LeaseView
from shared.progress import Progress
from shared.projects import Project
from shared.protocol import API_PREFIX, Page
from shared.runs import Run

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_SECONDS = 10.0

Model = TypeVar("Model", bound=BaseModel)


class CoordinatorError(Exception):
    """The coordinator cannot be reached or cannot answer; the message says why and what to do."""


class Client:
    """One coordinator, by its address. Use it as a context manager."""

    def __init__(self, url: str = DEFAULT_URL) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url + API_PREFIX, timeout=TIMEOUT_SECONDS)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def list_projects(self) -> list[Project]:
        return self._get("/projects", Page[Project]).items

    def get_progress(self, project: str) -> Progress:
        return self._get(f"/projects/{project}/progress", Progress)

    def list_experiments(self, project: str, limit: int = 50) -> list[ExperimentSummary]:
        """The newest experiments, newest first."""
        return self._get("/experiments", Page[ExperimentSummary], project=project, limit=limit).items

    def get_experiment(self, experiment_id: int) -> ExperimentDetail:
        return self._get(f"/experiments/{experiment_id}", ExperimentDetail)

    def list_runs(self, project: str, limit: int = 50) -> list[Run]:
        """The newest runs, newest first."""
        return self._get("/runs", Page[Run], project=project, limit=limit).items

    def list_live_leases(self, project: str) -> list[LeaseView]:
        """Who works on what right now."""
        return self._get("/leases", Page[LeaseView], project=project).items

    def _get(self, path: str, model: type[Model], **parameters: Any) -> Model:
        try:
            response = self._http.get(path, params=parameters)
        except httpx.HTTPError as error:
            raise CoordinatorError(f"{self.url} cannot be reached: {error}. Is the coordinator running?") from error
        try:
            if response.is_success:
                return model.model_validate_json(response.content)
            problem = Problem.model_validate_json(response.content)
        except ValidationError as error:
            raise CoordinatorError(
                f"{self.url} does not answer like a coordinator (HTTP {response.status_code})."
            ) from error
        raise CoordinatorError(f"{problem.title}: {problem.detail}")
