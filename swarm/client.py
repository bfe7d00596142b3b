"""A typed client of the coordinator's public API. Reading needs no account, unless the maintainers closed it.

It ignores unknown fields of a newer coordinator, as the API's promise asks of clients (docs/api.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from shared.export import HISTORY_FILE, ExportFormat, ExportTable
from shared.findings import FindingSummary, Paper, Question, SearchHit, SearchPage, Topic, Tried, name_topic
from shared.leases import LeaseView
from shared.projects import BranchView, CommitFiles, ProjectView
from shared.protocol import API_PREFIX, Page, Problem
from shared.records import (
    Comparison,
    ExperimentDetail,
    ExperimentEvidence,
    ExperimentSummary,
    HardwareClass,
    LineageStep,
    ProjectProgress,
    Record,
)
from shared.runs import RunView
from shared.workers import VolunteerView, WorkerView

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_SECONDS = 30.0
MAX_LIMIT = 200

Model = TypeVar("Model", bound=BaseModel)


class CommandError(Exception):
    """An expected error; the message states the cause and the remedy."""


class CoordinatorError(CommandError):
    """The coordinator cannot be reached or cannot answer."""


class Client:
    """A connection to one coordinator; a context manager. Closed reading needs a volunteer's `token`.

    Methods that return a list read one page of at most 200 rows, newest first; `iterate_*` read to the end. All raise
    CoordinatorError.
    """

    def __init__(self, url: str = DEFAULT_URL, token: SecretStr | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        self._http = httpx.Client(base_url=self.url, timeout=TIMEOUT_SECONDS, headers=headers)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def list_projects(self) -> list[ProjectView]:
        return self._get("/projects", Page[ProjectView]).items

    def get_project(self, name: str) -> ProjectView:
        return self._get(f"/projects/{name}", ProjectView)

    def list_branches(self, project: str) -> list[BranchView]:
        return self._get(f"/projects/{project}/branches", Page[BranchView]).items

    def get_progress(self, project: str, first: int = 1) -> ProjectProgress:
        """Progress in the hardware class with the most runs, from its run number `first` on."""
        return self._get(f"/projects/{project}/progress", ProjectProgress, first=first)

    def list_experiments(self, project: str, limit: int = 50) -> list[ExperimentSummary]:
        return self._get("/experiments", Page[ExperimentSummary], project=project, limit=limit).items

    def iterate_experiments(self, project: str) -> Iterator[ExperimentSummary]:
        return self._iterate("/experiments", Page[ExperimentSummary], project=project)

    def get_experiment(self, experiment_id: int) -> ExperimentDetail:
        return self._get(f"/experiments/{experiment_id}", ExperimentDetail)

    def get_evidence(self, experiment_id: int) -> ExperimentEvidence:
        """Why an experiment's verdict is what it is, in the hardware class of its first run."""
        return self._get(f"/experiments/{experiment_id}/evidence", ExperimentEvidence)

    def list_runs(self, project: str, limit: int = 50) -> list[RunView]:
        return self._get("/runs", Page[RunView], project=project, limit=limit).items

    def iterate_runs(self, project: str) -> Iterator[RunView]:
        return self._iterate("/runs", Page[RunView], project=project)

    def list_live_leases(self, project: str) -> list[LeaseView]:
        """The jobs that workers hold right now."""
        return self._get("/leases", Page[LeaseView], project=project).items

    def list_findings(self, project: str | None = None, limit: int = 50, **filters: Any) -> list[FindingSummary]:
        """The newest findings; `filters` are those of the API: `verdict`, `standing`, `axis`, `volunteer`, ..."""
        return self._get("/findings", Page[FindingSummary], project=project, limit=limit, **filters).items

    def search_findings(
        self, words: str, project: str | None = None, limit: int = 20, **filters: Any
    ) -> list[SearchHit]:
        """The findings that match a few words best; `filters` as for `list_findings`."""
        return self.search_page(words, project, limit, **filters).items

    def search_page(self, words: str, project: str | None = None, limit: int = 20, **filters: Any) -> SearchPage:
        """As `search_findings`, with whether meaning was used and how many findings cannot be found by it yet."""
        return self._get("/findings/search", SearchPage, q=words, project=project, limit=limit, **filters)

    def get_paper(self, finding_id: int) -> Paper:
        """A finding with its evidence as of now."""
        return self._get(f"/findings/{finding_id}", Paper)

    def get_topic(self, project: str, axis: str) -> Topic:
        """All that is known along one axis."""
        return self._get(f"/topics/{project}/{name_topic(axis)}", Topic)

    def ask_whether_tried(self, project: str, text: str) -> Tried:
        """Past and running experiments like a sentence or a diff."""
        question = Question(project=project, text=text)
        return self._parse(Tried, self._send("POST", f"{API_PREFIX}/findings/tried", json=question.model_dump()))

    def list_records(self, project: str | None = None) -> list[Record]:
        """The best commits in each hardware class, of a project or of all."""
        return self._get("/records", Page[Record], project=project).items

    def list_hardware_classes(self, project: str | None = None) -> list[HardwareClass]:
        return self._get("/hardware-classes", Page[HardwareClass], project=project).items

    def list_workers(self, limit: int = 50) -> list[WorkerView]:
        return self._get("/workers", Page[WorkerView], limit=limit).items

    def list_volunteers(self, limit: int = 50) -> list[VolunteerView]:
        return self._get("/volunteers", Page[VolunteerView], limit=limit).items

    def iterate_lineage(self, sha: str) -> Iterator[LineageStep]:
        """A commit and its ancestors, the nearest first; four digits of a sha are enough."""
        return self._iterate(f"/lineage/{sha}", Page[LineageStep])

    def compare(self, project: str | None, a: str, b: str) -> Comparison:
        """Two commits: their diff, and how much better or worse `b` is. Each is a sha or an experiment's number.

        Without a project it is that of the experiment `a`, or the only one.
        """
        if project is None and is_experiment_id(a):
            project = self.get_experiment(int(a)).project
        a, b = self.find_sha(a), self.find_sha(b)
        return self._get("/compare", Comparison, project=self.choose_project(project), a=a, b=b)

    def get_files(self, project: str, sha: str) -> CommitFiles:
        """All files of a commit; the whole sha is asked for."""
        return self._get(f"/projects/{project}/commits/{sha}/files", CommitFiles)

    def cite(self, finding_id: int) -> str:
        """A finding as a BibTeX entry."""
        return self._send("GET", f"{API_PREFIX}/findings/{finding_id}/bibtex").text

    def export(self, project: str, table: ExportTable, format_: ExportFormat) -> Iterator[bytes]:
        """A whole table of a project, in chunks."""
        return self._stream(f"{API_PREFIX}/projects/{project}/export/{table}.{format_}")

    def find_checkpoint(self, project: str) -> str | None:
        """The signed root of a project's history as it is now; None where it has none yet."""
        with self._reached():
            response = self._http.get(f"{API_PREFIX}/projects/{project}/history/checkpoint")
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        self._check(response)
        return response.text

    def export_history(self, project: str, size: int) -> Iterator[bytes]:
        """The first `size` entries of a project's history, a line each, in chunks."""
        return self._stream(f"{API_PREFIX}/projects/{project}/export/{HISTORY_FILE}?size={size}")

    def export_results(self, project: str) -> Iterator[bytes]:
        """A project as a `results.tsv` of the original form, in chunks."""
        return self._stream(f"{API_PREFIX}/projects/{project}/export/results.tsv")

    def download_history(self, project: str) -> Iterator[bytes]:
        """All commits of a project as a git bundle, in chunks."""
        return self._stream(f"/git/{project}.bundle")

    def choose_project(self, name: str | None) -> str:
        """The named project, or the only one."""
        if name is not None:
            return name
        known = [project.name for project in self.list_projects()]
        if len(known) != 1:
            raise CoordinatorError(f"{self.url} has {len(known)} projects: name one with --project. {', '.join(known)}")
        return known[0]

    def find_sha(self, text: str) -> str:
        """The commit of the experiment with this number; any other text is taken for a sha itself."""
        return self.get_experiment(int(text)).sha if is_experiment_id(text) else text

    def _get(self, path: str, model: type[Model], **parameters: Any) -> Model:
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._parse(model, self._send("GET", API_PREFIX + path, params=given))

    def _iterate(self, path: str, model: type[Page[Any]], **parameters: Any) -> Iterator[Any]:
        cursor: str | None = None
        while True:
            page = self._get(path, model, **parameters, limit=MAX_LIMIT, cursor=cursor)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        with self._reached():
            response = self._http.request(method, path, **request)
        self._check(response)
        return response

    def _stream(self, path: str) -> Iterator[bytes]:
        with self._reached(), self._http.stream("GET", path) as response:
            if not response.is_success:
                response.read()
            self._check(response)
            yield from response.iter_bytes()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise CoordinatorError(f"{self.url} cannot be reached: {error}. Is the coordinator running?") from error

    def _check(self, response: httpx.Response) -> None:
        """Raises CoordinatorError with the coordinator's own message unless the request succeeded."""
        if not response.is_success:
            problem = self._parse(Problem, response)
            raise CoordinatorError(f"{problem.title}: {problem.detail}")

    def _parse(self, model: type[Model], response: httpx.Response) -> Model:
        try:
            return model.model_validate_json(response.content, extra="ignore")
        except ValidationError as error:
            answered = f"does not answer like a coordinator (HTTP {response.status_code})"
            raise CoordinatorError(f"{self.url} {answered}.") from error


def is_experiment_id(text: str) -> bool:
    """Whether a commit is named by its experiment's number; seven digits and more are a sha."""
    return text.isdecimal() and len(text) < 7
