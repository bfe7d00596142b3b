"""The settings of a project, which maintainers change: versions that are stored, compared and restored."""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.http.errors import NotFoundError, SwarmError, must_find
from coordinator.http.pagination import cut_page
from coordinator.models import Project, StoredSettings
from shared.contract import JobMix, parse_contract
from shared.projects import ProjectJoining, ProjectMode, ProjectSettings, ProjectVersion
from shared.protocol import Page, now

JOBS = "jobs."
"""The beginning of the name of a share of the job mix, in a flat description of settings."""

Flat = Mapping[str, Any]
"""Settings by name, each one value: the members in one text, and the job mix's shares as `jobs.improve` and so on."""


class SettingsInvalidError(SwarmError, status=422, title="The project cannot have these settings"):
    pass


class ProjectClosedError(SwarmError, status=409, code="project-archived", title="The project is archived"):
    pass


def settings_of(project: Project) -> ProjectSettings:
    """A project's settings in their newest version."""
    return _parse(project.settings) if project.settings else _start(project.title, project.contract)


@lru_cache(maxsize=256)
def _parse(text: str) -> ProjectSettings:
    return ProjectSettings.model_validate_json(text)


@lru_cache(maxsize=256)
def _start(title: str, contract: str) -> ProjectSettings:
    return ProjectSettings(title=title, jobs=parse_contract(contract).jobs)


def flatten(settings: ProjectSettings) -> dict[str, Any]:
    """Settings as the audit log keeps them."""
    values = settings.model_dump(mode="json", exclude={"jobs", "members"})
    shares = {JOBS + name: share for name, share in settings.jobs.model_dump().items()}
    return values | {"members": " ".join(settings.members)} | shares


def merge(settings: ProjectSettings, changes: Flat) -> ProjectSettings:
    """The settings with other values. Raises SettingsInvalidError."""
    flat = flatten(settings) | dict(changes)
    jobs = JobMix(**{name.removeprefix(JOBS): flat.pop(name) for name in list(flat) if name.startswith(JOBS)})
    merged = ProjectSettings(**(flat | {"members": sorted(set(flat["members"].split())), "jobs": jobs}))
    if not jobs.experiments:
        raise SettingsInvalidError("Some kind of experiment needs a share. A project that drains gives none.")
    if merged.joining == ProjectJoining.MEMBERS and not merged.members:
        raise SettingsInvalidError("Name at least one member, or let everybody join.")
    return merged


def lock_project(session: Session, name: str) -> Project:
    """The project, its row locked until the transaction ends. Raises NotFoundError."""
    query = select(Project).where(Project.name == name).with_for_update(key_share=True)
    return must_find(session.scalar(query.execution_options(populate_existing=True)), f"There is no project {name!r}.")


def store_settings(session: Session, project: Project, settings: ProjectSettings, by: str, reason: str) -> None:
    """Give a locked project a new version of its settings."""
    if project.settings_version == 0:  # whose title would be gone
        _add_version(session, project, settings_of(project), "the contract", "", project.created_at)
    project.title, project.settings = settings.title, settings.model_dump_json()
    project.settings_version += 1
    _add_version(session, project, settings, by, reason, now())


def _add_version(
    session: Session, project: Project, settings: ProjectSettings, by: str, reason: str, moment: datetime
) -> None:
    row = StoredSettings(
        project_id=project.id, version=project.settings_version, settings=settings.model_dump_json(), by=by,
        reason=reason, created_at=moment,
    )  # fmt: skip
    session.add(row)
    session.flush()


def get_version(session: Session, project: Project, version: int) -> ProjectSettings:
    """The settings of a version. Raises NotFoundError."""
    stored = session.get(StoredSettings, (project.id, version))
    if stored is None and version == project.settings_version:
        return settings_of(project)
    if stored is None:
        raise NotFoundError(f"The settings of {project.name} have no version {version}.")
    return _parse(stored.settings)


def view_versions(session: Session, project: Project, before: int | None, limit: int) -> Page[ProjectVersion]:
    """The versions of a project's settings, the newest first."""
    if project.settings_version == 0:
        return Page(items=[view_version(session, project)] if before is None else [])
    query = select(StoredSettings).where(StoredSettings.project_id == project.id)
    if before is not None:
        query = query.where(StoredSettings.version < before)
    rows = session.scalars(query.order_by(StoredSettings.version.desc()).limit(limit + 1))
    return cut_page([_view(row) for row in rows], limit, lambda view: view.version)


def view_version(session: Session, project: Project) -> ProjectVersion:
    """The newest version of a project's settings."""
    stored = session.get(StoredSettings, (project.id, project.settings_version))
    if stored is not None:
        return _view(stored)
    values = dict(settings_of(project))
    return ProjectVersion(**values, version=0, by="the contract", reason="", at=project.created_at)


def _view(row: StoredSettings) -> ProjectVersion:
    values = dict(_parse(row.settings))
    return ProjectVersion(**values, version=row.version, by=row.by, reason=row.reason, at=row.created_at)


def why_closed(project: Project, volunteer: str, *, is_approved: bool) -> str:
    """Why a project has no job for an account's workers, as a sentence; empty if it may have one."""
    settings, name = settings_of(project), project.name
    told = f" {settings.notice}" if settings.notice else ""
    if settings.mode in (ProjectMode.PAUSED, ProjectMode.ARCHIVED):
        return f"A maintainer has {settings.mode} the project {name}.{told}"
    if settings.joining == ProjectJoining.MEMBERS and volunteer not in settings.members:
        return f"Only members work on the project {name}: ask a maintainer.{told}"
    if settings.joining == ProjectJoining.APPROVED and not is_approved:
        return f"The project {name} is for accounts that a maintainer has let in: ask for it.{told}"
    return ""
