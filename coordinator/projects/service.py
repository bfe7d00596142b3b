"""Creates and finds projects, and makes the keys of their sealed windows."""

import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.accounts import service as accounts
from coordinator.db.engine import Conn
from coordinator.events import service as events
from coordinator.http.errors import SwarmError, must_find
from coordinator.lineage import branches
from coordinator.lineage import service as lineage
from coordinator.lineage.service import BuiltCommit
from coordinator.models import HoldoutSecret, Project, view_of
from coordinator.projects.lookup import find_project
from coordinator.projects.settings import ProjectClosedError, settings_of
from shared import seeds
from shared.commits import CommitWords
from shared.contract import CONTRACT_FILE, Contract, JobMix, parse_contract
from shared.events import EventKind
from shared.projects import BranchRequest, BranchView, CommitFiles, ProjectMode, ProjectView
from shared.protocol import now

FIRST_BRANCH = "baseline"


class ProjectExistsError(SwarmError, status=409, title="A project of that name exists with other files"):
    pass


def get_project(session: Conn, name: str) -> Project:
    """The project of that name. Raises NotFoundError."""
    return must_find(find_project(session, name), f"There is no project {name!r}.")


def contract_of(project: Project) -> Contract:
    """The project's contract, with the job mix of its settings. It was checked when the project was made; nothing else
    of it ever changes."""
    if not project.settings:
        return parse_stored(project.contract)
    return _with_jobs(project.contract, settings_of(project).jobs)


@lru_cache(maxsize=256)
def _with_jobs(text: str, jobs: JobMix) -> Contract:
    return parse_stored(text).model_copy(update={"jobs": jobs})


@lru_cache(maxsize=256)
def parse_stored(text: str) -> Contract:
    """The contract of a project's column `contract`, parsed once."""
    return parse_contract(text)


def create_project(session: Session, folder: Path) -> tuple[Project, bool]:
    """Make a project from a seed's folder; returns it and whether it is new: the same files are the same project.
    Raises SeedInvalidError, ProjectExistsError."""
    contract, files = read_seed(folder)
    existing = find_project(session, contract.project.name)
    if existing is not None:  # it keeps the package's file that it got, whatever came since
        _, files = read_seed(folder, lineage.read_files(session, existing.id, existing.root_sha))
    created_at = existing.created_at if existing else now()
    words = CommitWords(
        author="research-swarm <swarm@localhost>",
        authored_at=int(created_at.timestamp()),
        message=f"Seed of {contract.project.name}, contract version {contract.project.version}\n",
    )
    root = lineage.build_root(files, words)
    if existing is not None:
        if existing.root_sha != root.sha:
            raise ProjectExistsError(
                f"The project {existing.name} was made from other files. "
                f"Give the changed seed another name in {CONTRACT_FILE}; results are never compared across contracts."
            )
        return existing, False
    return add_project(session, contract, files[CONTRACT_FILE], root, created_at), True


def add_project(session: Session, contract: Contract, text: str, root: BuiltCommit, created_at: datetime) -> Project:
    """Add a project with its root commit and its first branch; `text` is that of the contract."""
    given = contract.project
    project = Project(
        name=given.name, title=given.title, question=given.question, contract=text, contract_version=given.version,
        root_sha=root.sha, created_at=created_at,
    )  # fmt: skip
    session.add(project)
    session.flush()
    make_secret(session, project.id)
    lineage.store_commit(session, project.id, root)
    events.record(session, EventKind.PROJECT_CREATED, project.id, project=project.name)
    branches.create_branch(
        session, project.id, FIRST_BRANCH, contract.project.title, root.sha, "research-swarm", "The project begins."
    )
    return project


def view_editable(session: Conn, project: Project, shas: Sequence[str]) -> list[CommitFiles]:
    """Commits with their editable files only. Raises NotFoundError."""
    editable = contract_of(project).files.editable
    return [lineage.view_commit(session, project.id, sha, editable) for sha in dict.fromkeys(shas)]


def request_branch(session: Session, volunteer_id: int, project_name: str, request: BranchRequest) -> BranchView:
    """A volunteer names a research direction. Raises NotFoundError, BranchExistsError, TooManyBranchesError,
    ProjectClosedError."""
    project = get_project(session, project_name)
    if settings_of(project).mode == ProjectMode.ARCHIVED:
        raise ProjectClosedError(f"{project_name} gets no jobs any more, so a branch would be empty.")
    who = accounts.get_name(session, volunteer_id)
    branch = branches.request_branch(session, project, contract_of(project).diversity, request, who, volunteer_id)
    return branches.view_branch(project, branch)


def view_project(project: Project) -> ProjectView:
    settings = settings_of(project)
    return view_of(
        ProjectView, project, self_scored=contract_of(project).objective.is_self_scored, notice=settings.notice,
        mode=settings.mode,
    )  # fmt: skip


class SeedInvalidError(SwarmError, status=422, title="The folder cannot become a project"):
    pass


def read_seed(folder: Path, known: Mapping[str, str] | None = None) -> tuple[Contract, dict[str, str]]:
    """As `seeds.read_seed`. Raises SeedInvalidError."""
    try:
        return seeds.read_seed(folder, known)
    except seeds.SeedInvalid as error:
        raise SeedInvalidError(str(error)) from error


SECRET_BYTES = 32


def make_secret(session: Session, project_id: int) -> None:
    """Give a project a secret, in the place of the one that it had: keys from before say nothing of those to come."""
    secret = secrets.token_hex(SECRET_BYTES)
    session.merge(HoldoutSecret(project_id=project_id, secret=secret, created_at=now()))
    session.flush()


def derive_key(session: Session, project: Project, sha: str, lease_id: UUID) -> str:
    """The key of one lease on one commit, 64 hexadecimal digits: HMAC-SHA256 of both (RFC 2104)."""
    stored = session.get_one(HoldoutSecret, project.id)
    return hmac.new(bytes.fromhex(stored.secret), f"{sha} {lease_id}".encode(), sha256).hexdigest()
