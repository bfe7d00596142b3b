"""Maintainers change the settings of projects: each change is a version with a reason, in the audit log, and undone.

All raise NotFoundError for an unknown project, NotAllowedError as `service` says, and SettingsInvalidError.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.orm import Session

from coordinator.events.audit import Actor
from coordinator.http.errors import SwarmError
from coordinator.leases import service as leases
from coordinator.models import AuditEntry, Project
from coordinator.moderation import service
from coordinator.projects import settings as project_settings
from coordinator.projects.lookup import list_projects
from coordinator.projects.service import get_project
from coordinator.projects.settings import JOBS, SettingsInvalidError, flatten, settings_of, why_closed
from coordinator.selection import job_mix
from shared.contract import JobMix
from shared.formatting import count_noun
from shared.moderation import AuditAction, SettingsChange, SubjectKind
from shared.projects import ProjectMode, ProjectSettings, SettingChange, SettingsPreview


class SettingsOutdatedError(SwarmError, status=409, title="The settings were changed meanwhile"):
    pass


def change_settings(session: Session, actor: Actor, name: str, asked: SettingsChange, reason: str) -> AuditEntry:
    """Save a new version of a project's settings. Raises SettingsOutdatedError, NothingChangesError."""
    service.take_turn(session, actor)
    project = project_settings.lock_project(session, name)
    merged = merge(project, asked)
    changes = _list_changes(settings_of(project), merged) or _name_values(asked)
    return service.change(session, actor, AuditAction.CHANGE_PROJECT, SubjectKind.PROJECT, name, changes, reason)


def restore_version(session: Session, actor: Actor, name: str, version: int, reason: str) -> AuditEntry:
    """Save the settings of an earlier version as a new one. Raises NothingChangesError."""
    service.take_turn(session, actor)
    project = project_settings.lock_project(session, name)
    earlier = project_settings.get_version(session, project, version)
    changes = _list_changes(settings_of(project), earlier) or flatten(earlier)
    return service.change(session, actor, AuditAction.CHANGE_PROJECT, SubjectKind.PROJECT, name, changes, reason)


def preview(session: Session, name: str, asked: SettingsChange) -> SettingsPreview:
    """Describe a change of settings, and change nothing. Raises SettingsOutdatedError."""
    project = get_project(session, name)
    before, after = settings_of(project), merge(project, asked)
    old = flatten(before)
    changes = [
        SettingChange(name=key, before=str(old[key]), after=str(value))
        for key, value in _list_changes(before, after).items()
    ]
    consequences = list(_list_consequences(session, project, before, after))
    return SettingsPreview(version=project.settings_version, changes=changes, consequences=consequences)


def merge(project: Project, asked: SettingsChange) -> ProjectSettings:
    """The project's settings after a change. Raises SettingsOutdatedError, SettingsInvalidError."""
    if asked.version is not None and asked.version != project.settings_version:
        raise SettingsOutdatedError(f"They are in version {project.settings_version} by now: look at it first.")
    return project_settings.merge(settings_of(project), _name_values(asked))


def _name_values(asked: SettingsChange) -> dict[str, Any]:
    """The values that are asked for, by their flat names. Raises SettingsInvalidError."""
    if unknown := sorted(kind for kind in asked.jobs if kind not in JobMix.model_fields):
        raise SettingsInvalidError(f"The job mix has no share of {', '.join(unknown)}.")
    names = ProjectSettings.model_fields.keys() - {"jobs"}
    given = asked.model_dump(mode="json", include=set(names), exclude_none=True)
    if "members" in given:
        given["members"] = " ".join(sorted(set(given["members"])))
    return given | {JOBS + kind: share for kind, share in asked.jobs.items()}


def _list_changes(before: ProjectSettings, after: ProjectSettings) -> dict[str, Any]:
    old = flatten(before)
    return {name: value for name, value in flatten(after).items() if old[name] != value}


def _list_consequences(
    session: Session, project: Project, before: ProjectSettings, after: ProjectSettings
) -> Iterator[str]:
    under_way = sum(leases.count_live_by_phase(session, project.id).values())
    jobs = count_noun(under_way, "job")
    if after.mode != before.mode:
        yield {
            ProjectMode.RUNNING: "Workers get jobs of all kinds again.",
            ProjectMode.DRAINING: f"No new experiment begins. {jobs} under way may end, and what waits to be verified "
            "is still measured.",
            ProjectMode.PAUSED: f"No new job is given. {jobs} under way may end, and their results count.",
            ProjectMode.ARCHIVED: f"No new job is given, nobody names branches, and the front page only names the "
            f"project. {jobs} under way may end, and their results count.",
        }[after.mode]
    if (after.joining, after.members) != (before.joining, before.members):
        yield _describe_joining(session, project, after)
    if (after.weight, after.mode) != (before.weight, before.mode):
        yield (
            f"Of workers that ask for no project in particular {_share_of(session, project, before)} are to be on this "
            f"one now, and {_share_of(session, project, after)} then."
        )
    if after.jobs != before.jobs:
        old, new = (job_mix.compute_shares(session, project, one.jobs) for one in (before, after))
        named = (f"{kind} {old.get(kind, 0):.0%} → {new.get(kind, 0):.0%}" for kind in sorted({*old, *new}))
        yield f"Kinds of the experiments, after what each gained so far: {', '.join(named)}."
        parts = ((mix.replicate + mix.control) / (mix.experiments + mix.replicate + mix.control)
                 for mix in (before.jobs, after.jobs))  # fmt: skip
        yield "Jobs that measure existing commits: {:.0%} → {:.0%}.".format(*parts)


def _describe_joining(session: Session, project: Project, after: ProjectSettings) -> str:
    """The volunteers at work on a project who would get no job any more, in a sentence."""
    running = after.model_copy(update={"mode": ProjectMode.RUNNING})
    changed = Project(name=project.name, settings=running.model_dump_json())
    working = leases.list_volunteers_at_work(session, project.id)
    kept_out = [name for name, is_approved in working if why_closed(changed, name, is_approved=is_approved)]
    if not kept_out:
        return f"All {count_noun(len(working), 'volunteer')} at work on it may go on."
    more = f" and {len(kept_out) - 5} others" if len(kept_out) > 5 else ""
    people = count_noun(len(working), "volunteer")
    return f"Of {people} at work on it these get no job any more: {', '.join(kept_out[:5])}{more}."


def _share_of(session: Session, project: Project, settings: ProjectSettings) -> str:
    """The share of the fleet that a project should have among those that give jobs."""
    weights: Mapping[int, ProjectSettings] = {one.id: settings_of(one) for one in list_projects(session)}
    weights = {**weights, project.id: settings}
    is_open = (ProjectMode.RUNNING, ProjectMode.DRAINING)
    every = sum(one.weight for one in weights.values() if one.mode in is_open)
    own = settings.weight if settings.mode in is_open else 0.0
    return f"{own / every if every else 0:.0%}"
