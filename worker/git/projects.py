"""What this worker knows of a project: its contract, and the files of the commits it was given."""

from dataclasses import dataclass
from pathlib import Path
from threading import Event

from shared.contract import CONTRACT_FILE, Contract, parse_contract
from shared.leases import Lease
from shared.projects import CommitFiles
from worker.agents.base import StepFiles
from worker.api.client import CoordinatorClient
from worker.api.retry import insist
from worker.git.repository import CommitUnknown, Repository

PROGRAM_FILE = "program.md"
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class LocalProject:
    """A project under one version of its contract. `program` is empty where it has no `program.md`."""

    contract: Contract
    program: str
    repository: Repository


class Projects:
    """Projects by name and root, fetched on first need."""

    def __init__(self, client: CoordinatorClient, folder: Path, stop: Event) -> None:
        self._client = client
        self._folder = folder
        self._stop = stop
        self._known: dict[tuple[str, str], LocalProject] = {}

    def find(self, lease: Lease) -> LocalProject:
        """The lease's project. Raises ClientError, ContractError, CommitError."""
        key = (lease.project, lease.root_sha)
        if key not in self._known:
            repository = Repository(self._folder / f"{lease.project}.git")
            files = self._read_root(lease, repository)
            # The contract is part of the root commit, so that nobody need be asked for it.
            contract = parse_contract(files.get(CONTRACT_FILE, ""))
            self._known[key] = LocalProject(contract, files.get(PROGRAM_FILE, ""), repository)
        return self._known[key]

    def read_base(self, lease: Lease) -> dict[str, str]:
        """The whole work tree of the lease's base: the project's protected files and the lease's editable ones."""
        repository = self.find(lease).repository
        try:
            return repository.read_files(lease.base.sha)
        except CommitUnknown:
            files = repository.read_files(lease.root_sha) | lease.base.files
            repository.remember(CommitFiles(sha=lease.base.sha, parent_sha=None, files=files))
            return files

    def read_steps(self, lease: Lease) -> tuple[StepFiles, ...]:
        """The steps that the lease asks for, with their editable files. Raises ClientError."""
        steps = lease.assignment.steps
        if not steps:
            return ()
        shas = list(dict.fromkeys(sha for step in steps for sha in (step.parent_sha, step.sha)))
        fetch = self._client.fetch_editable
        commits = insist(lambda: fetch(lease.project, shas), self._stop, PATIENCE_SECONDS)
        return tuple(StepFiles(step, commits[step.parent_sha], commits[step.sha]) for step in steps)

    def close(self) -> None:
        """Close the repositories."""
        for project in self._known.values():
            project.repository.close()

    def _read_root(self, lease: Lease, repository: Repository) -> dict[str, str]:
        try:
            return repository.read_files(lease.root_sha)
        except CommitUnknown:
            fetch = self._client.fetch_files
            commit = insist(lambda: fetch(lease.project, lease.root_sha), self._stop, PATIENCE_SECONDS)
            repository.remember(commit)
            return commit.files
