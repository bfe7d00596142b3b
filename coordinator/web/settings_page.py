"""The page of a project's settings: for everybody to read, and for maintainers to change after a preview."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from pydantic import Field, TypeAdapter, ValidationError, field_validator
from sqlalchemy.orm import Session

from coordinator.db.database import CurrentDatabase, ReadSession
from coordinator.http.errors import SwarmError
from coordinator.http.pagination import Cursor
from coordinator.models import Project
from coordinator.moderation import projects as project_changes
from coordinator.projects import service as projects
from coordinator.projects import settings as project_settings
from coordinator.projects.settings import SettingsInvalidError
from coordinator.selection.job_mix import view_shares
from coordinator.web.rendering import render
from coordinator.web.sessions import CsrfChecked, Maintainer, Visitor, act_as, redirect
from shared.contract import JobMix
from shared.moderation import Reason, SettingsChange
from shared.projects import DataLicence, Notice, ProjectJoining, ProjectMode, ProjectSettings, Weight
from shared.protocol import ShortText, Slug
from shared.workers import Role

router = APIRouter(include_in_schema=False)

_NUMBER = TypeAdapter(float)
ROWS = 20
MODES = {
    ProjectMode.RUNNING: "gives jobs of all kinds",
    ProjectMode.DRAINING: "begins no experiments, and measures what waits to be verified",
    ProjectMode.PAUSED: "gives no jobs",
    ProjectMode.ARCHIVED: "gives no jobs any more, and stands among past projects",
}
JOININGS = {
    ProjectJoining.EVERYBODY: "workers of every account",
    ProjectJoining.APPROVED: "workers of accounts that a maintainer let in, by approval or invitation",
    ProjectJoining.MEMBERS: "workers of members",
}


class SettingsForm(JobMix):
    """The fields of the form: the settings, with the job mix's shares among them, and the version they stand on."""

    title: ShortText
    notice: Notice = ""
    mode: ProjectMode
    weight: Weight
    joining: ProjectJoining
    members: Annotated[str, Field(max_length=40_000)] = ""
    data_licence: DataLicence = DataLicence.UNSTATED
    version: int
    reason: Reason | Annotated[str, Field(pattern="^$")] = ""
    csrf: str = ""

    @field_validator(*JobMix.model_fields, "weight", mode="before")
    @classmethod
    def _read_number(cls, given: Any) -> float:
        return _NUMBER.validate_python(given)

    def to_change(self) -> SettingsChange:
        """The values that were filled in. Raises SettingsInvalidError for a member's name that cannot be one."""
        shares = self.model_dump(include=set(JobMix.model_fields))
        given = self.model_dump(exclude={*JobMix.model_fields, "members", "reason", "csrf"})
        members = re.split(r"[\s,]+", self.members.strip()) if self.members.strip() else []
        try:
            return SettingsChange.model_validate(given | {"members": members, "jobs": shares})
        except ValidationError as error:
            raise SettingsInvalidError("Members are names of accounts, one a line, 500 at most.") from error


Given = Annotated[SettingsForm, Form()]


@router.get("/projects/{name}/settings")
def show_settings(
    name: Slug,
    session: ReadSession,
    visitor: Visitor,
    version: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
    cursor: Cursor = None,
) -> Response:
    """A project's settings in the newest or another version, which a maintainer may change and save."""
    project = projects.get_project(session, name)
    shown = project_settings.settings_of(project)
    if version is not None:
        shown = project_settings.get_version(session, project, version)
    is_maintainer = visitor is not None and visitor.role == Role.MAINTAINER
    return render("projects/settings.html", page=_view(session, name, shown, cursor, is_maintainer, version))


@router.post("/projects/{name}/settings/preview", dependencies=[CsrfChecked])
def preview_settings(name: Slug, session: ReadSession, _maintainer: Maintainer, given: Given) -> Response:
    """Show what the settings of the form would change, and save nothing."""
    project = projects.get_project(session, name)
    try:
        asked = given.to_change()
        preview = project_changes.preview(session, name, asked)
        shown = project_changes.merge(project, asked)
    except SwarmError as error:
        return _show_again(session, project, given, error)
    page = _view(session, name, shown, None, is_maintainer=True) | {"preview": preview, "reason": given.reason}
    return render("projects/settings.html", page=page)


def _show_again(session: Session, project: Project, given: SettingsForm, error: SwarmError) -> Response:
    """The page with the form that was refused, as it was sent. The next preview compares it with the newest version."""
    values = given.model_dump(include={"title", "notice", "mode", "weight", "joining", "data_licence"})
    jobs = JobMix(**given.model_dump(include=set(JobMix.model_fields)))
    shown = project_settings.settings_of(project).model_copy(update=values | {"jobs": jobs})
    told = {"problem": f"{error.title}. {error.detail}", "members": given.members, "reason": given.reason}
    page = _view(session, project.name, shown, None, is_maintainer=True) | told
    return render("projects/settings.html", status_code=error.status, page=page)


@router.post("/projects/{name}/settings", dependencies=[CsrfChecked])
def save_settings(
    name: Slug, request: Request, database: CurrentDatabase, maintainer: Maintainer, given: Given
) -> Response:
    """Save the settings of the form as a new version."""
    try:
        if not given.reason:
            raise SettingsInvalidError("Nothing was saved: say why.")
        with database.write() as session:
            asked = given.to_change()
            number = project_changes.change_settings(session, act_as(maintainer), name, asked, given.reason).id
    except SwarmError as error:
        with database.read() as session:
            return _show_again(session, projects.get_project(session, name), given, error)
    return redirect(request, f"/projects/{name}/settings", f"The settings are saved. In the audit log: {number}.")


def _view(
    session: Session, name: str, shown: ProjectSettings, cursor: int | None, is_maintainer: bool,
    version: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    project = projects.get_project(session, name)
    return {
        "project": projects.view_project(project), "here": f"/projects/{name}/settings", "shown": shown,
        "members": "\n".join(shown.members), "base": project.settings_version, "version": version,
        "is_maintainer": is_maintainer, "modes": MODES, "joinings": JOININGS, "licences": list(DataLicence),
        "mix": [(kind, getattr(shown.jobs, kind)) for kind in JobMix.model_fields],
        "contract_mix": projects.parse_stored(project.contract).jobs,
        "adapted": {row.kind: row.share for row in view_shares(session, project)},
        "versions": project_settings.view_versions(session, project, cursor, ROWS), "is_first": cursor is None,
        "preview": None, "problem": "", "reason": "",
    }  # fmt: skip
