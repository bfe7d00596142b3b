"""Projects as this worker has them: the contract, and the files of commits."""

from dataclasses import dataclass
from pathlib import Path
from threading import Event

from shared.contract import CONTRACT_FILE, Contract, parse_contract
from shared.leases import GrantedLease, SeedProbe
from shared.projects import CommitFiles
from worker.agents.base import StepFiles
from worker.api.client import CoordinatorClient
from worker.api.retry import retry
from worker.git.repository import CommitUnknown, Repository

PROGRAM_FILE = "program.md"
RETRY_FOR_SECONDS = 60.0
"""Seconds for which a request in the middle of a job is repeated."""


@dataclass(frozen=True)
class LocalProject:
    """A project under one version of its contract. `program` is the text of `program.md`, empty if there is none."""

    contract: Contract
    program: str
    repository: Repository


class Projects:
    """Projects by name and root commit, fetched when first used. One thread at a time fetches."""

    def __init__(self, client: CoordinatorClient, folder: Path, stop: Event) -> None:
        self._client = client
        self._folder = folder
        self._stop = stop
        self._known: dict[tuple[str, str], LocalProject] = {}

    def get(self, lease: GrantedLease | SeedProbe) -> LocalProject:
        """The project of a lease or of a probe. Raises ClientError, ContractError, CommitError."""
        key = (lease.project, lease.root_sha)
        if key not in self._known:
            repository = Repository(self._folder / f"{lease.project}.git")
            try:
                files = repository.read_files(lease.root_sha)
            except CommitUnknown:
                fetch = self._client.fetch_files
                commit = retry(lambda: fetch(lease.project, lease.root_sha), self._stop, RETRY_FOR_SECONDS)
                repository.store_files(commit)
                files = commit.files
            # The contract is a file of the root commit.
            contract = parse_contract(files.get(CONTRACT_FILE, ""))
            self._known[key] = LocalProject(contract, files.get(PROGRAM_FILE, ""), repository)
        return self._known[key]

    def read_base(self, lease: GrantedLease) -> dict[str, str]:
        """All files of the lease's base: the project's protected files and the lease's editable ones."""
        repository = self.get(lease).repository
        try:
            return repository.read_files(lease.base.sha)
        except CommitUnknown:
            files = repository.read_files(lease.root_sha) | lease.base.files
            repository.store_files(CommitFiles(sha=lease.base.sha, parent_sha=None, files=files))
            return files

    def read_steps(self, lease: GrantedLease) -> tuple[StepFiles, ...]:
        """The steps of the lease's assignment, with their editable files. Raises ClientError."""
        steps = lease.assignment.steps
        if not steps:
            return ()
        shas = list(dict.fromkeys(sha for step in steps for sha in (step.parent_sha, step.sha)))
        fetch = self._client.fetch_editable
        commits = retry(lambda: fetch(lease.project, shas), self._stop, RETRY_FOR_SECONDS)
        return tuple(StepFiles(step, commits[step.parent_sha], commits[step.sha]) for step in steps)

    def close(self) -> None:
        for project in self._known.values():
            project.repository.close()
