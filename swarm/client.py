"""A typed client of the coordinator's public API. Reading needs no account, unless the maintainers closed it.

It ignores unknown fields of a newer coordinator, as the API's promise asks of clients (docs/api.md).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import uuid4

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from shared.addresses import complete_address
from shared.export import HISTORY_FILE, ExportFormat, ExportTable
from shared.findings import FindingSummary, Note, NoteDraft, Paper, Question, SearchHit, SearchPage, Tried
from shared.leases import LeaseView
from shared.projects import BranchRequest, BranchView, CommitFiles, ProjectView
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
from shared.runs import RunCurve, RunView
from shared.topics import Topic, TopicSummary, name_topic
from shared.workers import VolunteerView, WorkerView
from swarm.listing import CommandError, Listing

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_SECONDS = 30.0

Model = TypeVar("Model", bound=BaseModel)


class CoordinatorError(CommandError):
    """The coordinator cannot be reached or cannot answer."""


class Client:
    """A connection to one coordinator; a context manager. Closed reading needs a volunteer's `token`.

    What a `list_*` returns reads page after page while one iterates over it, up to the `limit`; `to_frame()` makes it a
    data frame. `filters` are the parameters that the address has: `verdict="worse"`, `sort="best"`, `since=...`.
    All raise CoordinatorError.
    """

    def __init__(self, url: str = DEFAULT_URL, token: SecretStr | None = None) -> None:
        try:
            self.url = complete_address(url)
        except ValueError as error:
            raise CoordinatorError(f"the coordinator's address {url!r} is none: {error}.") from error
        self.has_token = token is not None
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        self._http = httpx.Client(base_url=self.url, timeout=TIMEOUT_SECONDS, headers=headers)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def list_projects(self, limit: int | None = None, **filters: Any) -> Listing[ProjectView]:
        return self._list("/projects", ProjectView, limit, filters)

    def get_project(self, name: str) -> ProjectView:
        return self._get(f"/projects/{name}", ProjectView)

    def list_branches(self, project: str, limit: int | None = None, **filters: Any) -> Listing[BranchView]:
        return self._list(f"/projects/{project}/branches", BranchView, limit, filters)

    def get_progress(self, project: str, first: int = 1) -> ProjectProgress:
        """Progress in the hardware class with the most runs, from its run number `first` on."""
        return self._get(f"/projects/{project}/progress", ProjectProgress, first=first)

    def list_experiments(self, project: str, limit: int | None = None, **filters: Any) -> Listing[ExperimentSummary]:
        return self._list("/experiments", ExperimentSummary, limit, {"project": project, **filters})

    def get_experiment(self, experiment_id: int) -> ExperimentDetail:
        return self._get(f"/experiments/{experiment_id}", ExperimentDetail)

    def get_evidence(self, experiment_id: int) -> ExperimentEvidence:
        """Why an experiment's verdict is what it is, in the hardware class of its first run."""
        return self._get(f"/experiments/{experiment_id}/evidence", ExperimentEvidence)

    def list_runs(self, project: str, limit: int | None = None, **filters: Any) -> Listing[RunView]:
        return self._list("/runs", RunView, limit, {"project": project, **filters})

    def list_curves(self, project: str, limit: int | None = None, **filters: Any) -> Listing[RunCurve]:
        """Training curves of runs, each of at most `points` points."""
        return self._list("/curves", RunCurve, limit, {"project": project, **filters})

    def list_topics(self, project: str, limit: int | None = None, **filters: Any) -> Listing[TopicSummary]:
        """The axes along which a project was explored."""
        return self._list("/topics", TopicSummary, limit, {"project": project, **filters})

    def list_live_leases(self, project: str, **filters: Any) -> list[LeaseView]:
        """The jobs that workers hold right now; of more than 200 that fit, those heard of longest ago."""
        return self._get("/leases", Page[LeaseView], project=project, **filters).items

    def list_findings(
        self, project: str | None = None, limit: int | None = None, **filters: Any
    ) -> Listing[FindingSummary]:
        """Findings, the newest first unless another order is asked for."""
        return self._list("/findings", FindingSummary, limit, {"project": project, **filters})

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
        return self._post("/findings/tried", Question(project=project, text=text), Tried)

    def list_records(self, project: str | None = None, **filters: Any) -> Listing[Record]:
        """The best commits in each hardware class, of a project or of all."""
        return self._list("/records", Record, None, {"project": project, **filters}, has_pages=False)

    def list_hardware_classes(self, project: str | None = None) -> Listing[HardwareClass]:
        return self._list("/hardware-classes", HardwareClass, None, {"project": project}, has_pages=False)

    def list_workers(self, limit: int | None = None, **filters: Any) -> Listing[WorkerView]:
        return self._list("/workers", WorkerView, limit, filters)

    def list_volunteers(self, limit: int | None = None, **filters: Any) -> Listing[VolunteerView]:
        return self._list("/volunteers", VolunteerView, limit, filters)

    def list_lineage(self, commit: str, limit: int | None = None, **filters: Any) -> Listing[LineageStep]:
        """A commit and its ancestors, the nearest first. It is a sha, four digits of one, or an experiment's number."""
        return self._list(f"/lineage/{commit}", LineageStep, limit, filters)

    def compare(self, a: str, b: str, project: str | None = None) -> Comparison:
        """Two commits: their diff, and how much better or worse `b` is. Each is a sha or an experiment's number; by
        default they are of the project of `a`."""
        return self._get("/compare", Comparison, project=project, a=a, b=b)

    def name_branch(self, project: str, name: str, theme: str) -> BranchView:
        """Names a research direction. Needs a token."""
        return self._post(f"/projects/{project}/branches", BranchRequest(name=name, theme=theme), BranchView)

    def add_note(self, finding_id: int, text: str) -> Note:
        """Writes a note beside a finding. Needs a moderator's or a maintainer's token."""
        key = {"Idempotency-Key": str(uuid4())}
        return self._post(f"/findings/{finding_id}/notes", NoteDraft(text=text), Note, headers=key)

    def get_files(self, project: str, sha: str) -> CommitFiles:
        """All files of a commit; the whole sha is asked for."""
        return self._get(f"/projects/{project}/commits/{sha}/files", CommitFiles)

    def cite(self, finding_id: int) -> str:
        """A finding as a BibTeX entry."""
        return self._send("GET", f"{API_PREFIX}/findings/{finding_id}/bibtex").text

    def export(self, project: str, table: ExportTable, format_: ExportFormat, **filters: Any) -> Iterator[bytes]:
        """A table of a project, in chunks: the whole, or what is of experiments that fit."""
        return self._stream(f"{API_PREFIX}/projects/{project}/export/{table}.{format_}", **filters)

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
            raise CoordinatorError(
                f"{self.url} has {len(known)} projects: name the project, one of {', '.join(known)}."
            )
        return known[0]

    def _get(self, path: str, model: type[Model], **parameters: Any) -> Model:
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._parse(model, self._send("GET", API_PREFIX + path, params=given))

    def _post(self, path: str, message: BaseModel, model: type[Model], **more: Any) -> Model:
        return self._parse(model, self._send("POST", API_PREFIX + path, json=message.model_dump(), **more))

    def _list(
        self, path: str, model: type[Model], limit: int | None, filters: dict[str, Any], *, has_pages: bool = True
    ) -> Listing[Model]:
        def read(size: int, cursor: str | None) -> Page[Model]:
            place = {"limit": size, "cursor": cursor} if has_pages else {}
            return self._get(path, Page[model], **filters, **place)  # type: ignore[valid-type]  # known when it runs

        return Listing(model, read, limit)

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        with self._reached():
            response = self._http.request(method, path, **request)
        self._check(response)
        return response

    def _stream(self, path: str, **parameters: Any) -> Iterator[bytes]:
        with self._reached(), self._http.stream("GET", path, params=parameters) as response:
            if not response.is_success:
                response.read()
            self._check(response)
            yield from response.iter_bytes()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
            raise CoordinatorError(
                f"{self.url} cannot be reached: {reason.rstrip('.')}. Is the coordinator running, and is this its "
                "address (--coordinator or SWARM_COORDINATOR_URL)?"
            ) from error

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
