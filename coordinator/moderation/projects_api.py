"""The settings of projects over HTTP: read by everybody, changed by maintainers with a reason."""

from fastapi import APIRouter

from coordinator.accounts.permissions import Permission
from coordinator.accounts.security import BearerToken
from coordinator.accounts.service import authorize
from coordinator.db.database import ReadSession, WriteSession
from coordinator.http.pagination import Cursor, Limit
from coordinator.http.parameters import KNOWN_ONLY
from coordinator.moderation import projects
from coordinator.moderation.api import act
from coordinator.moderation.service import view
from coordinator.projects import settings
from coordinator.projects.service import get_project
from shared.moderation import AuditView, SettingsChange, SettingsRequest, SettingsRestoration
from shared.projects import ProjectVersion, SettingsPreview
from shared.protocol import API_PREFIX, Page, Slug

router = APIRouter(prefix=f"{API_PREFIX}/projects/{{name}}/settings", tags=["duties"], dependencies=KNOWN_ONLY)


@router.get("")
def list_settings(name: Slug, session: ReadSession, cursor: Cursor = None, limit: Limit = 50) -> Page[ProjectVersion]:
    """All versions of a project's settings, the newest first, which holds now."""
    return settings.view_versions(session, get_project(session, name), cursor, limit)


@router.post("/preview")
def preview_settings(name: Slug, asked: SettingsChange, token: BearerToken, session: ReadSession) -> SettingsPreview:
    """Say what a change of settings would do, and change nothing."""
    authorize(session, token, Permission.ADMINISTER)
    return projects.preview(session, name, asked)


@router.post("")
def change_settings(name: Slug, asked: SettingsRequest, token: BearerToken, session: WriteSession) -> AuditView:
    """Save a new version of a project's settings: title, notice, mode, weight, who may join, job mix."""
    actor = act(session, token, Permission.ADMINISTER)
    return view(projects.change_settings(session, actor, name, asked, asked.reason))


@router.post("/restoration")
def restore_settings(name: Slug, asked: SettingsRestoration, token: BearerToken, session: WriteSession) -> AuditView:
    """Save the settings of an earlier version as a new one."""
    actor = act(session, token, Permission.ADMINISTER)
    return view(projects.restore_version(session, actor, name, asked.version, asked.reason))
