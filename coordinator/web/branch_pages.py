"""A project's branches as a page, with the forms by which volunteers name them and moderators change them."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from coordinator.accounts.permissions import STAFF, Caller
from coordinator.db.database import CurrentDatabase, ReadSession
from coordinator.http.prefix import root
from coordinator.lineage.branches import view_branches, view_log
from coordinator.models import AuditEntry
from coordinator.moderation import branches
from coordinator.projects import service as projects
from coordinator.web.rendering import render
from coordinator.web.sessions import Contributor, CsrfChecked, Moderator, Visitor, act_as, redirect
from shared.moderation import Reason
from shared.projects import BranchRequest, BranchState
from shared.protocol import LongText, Sha, Slug

router = APIRouter(include_in_schema=False)


class BranchChange(StrEnum):
    """A change of a branch, as the last part of its form's address."""

    PAUSE = "pause"
    RESUME = "resume"
    APPROVE = "approve"
    RENAME = "rename"
    SHARE = "share"
    MOVE = "move"
    DELETE = "delete"


@router.get("/projects/{name}/branches")
def show_branches(name: Slug, session: ReadSession, visitor: Visitor, branch: Slug | None = None) -> Response:
    """A project's branches and proposals; leads to one of them where its earlier address names it."""
    if branch:
        return RedirectResponse(f"{root()}/projects/{name}/branches/{branch}", 301)
    return _render_branches(session, visitor, name, None)


@router.get("/projects/{name}/branches/{branch}")
def show_branch(name: Slug, branch: Slug, session: ReadSession, visitor: Visitor) -> Response:
    """The log of a branch, among the project's others."""
    return _render_branches(session, visitor, name, branch)


def _render_branches(session: Session, visitor: Caller | None, name: str, branch: str | None) -> Response:
    project = projects.get_project(session, name)
    return render(
        "projects/branches.html",
        page={
            "project": projects.view_project(project), "branches": view_branches(session, project), "chosen": branch,
            "log": view_log(session, project, branch) if branch else [], "states": BranchState,
            "is_staff": visitor is not None and visitor.role in STAFF,
            "rules": projects.contract_of(project).diversity,
        },
    )  # fmt: skip


@router.post("/projects/{name}/branches", dependencies=[CsrfChecked])
def name_branch(
    name: Slug,
    request: Request,
    database: CurrentDatabase,
    contributor: Contributor,
    branch: Annotated[Slug, Form(alias="name")],
    theme: Annotated[LongText, Form()],
) -> Response:
    """Name a research direction. What refuses it shows its theme again."""
    with database.write() as session:
        made = projects.request_branch(session, contributor.id, name, BranchRequest(name=branch, theme=theme))
    waits = " It waits for a maintainer's approval." if made.state == BranchState.PROPOSED else ""
    return redirect(request, f"/projects/{name}/branches", f"{branch} is named.{waits}")


@router.post("/projects/{name}/branches/{branch}/{change}", dependencies=[CsrfChecked])
def change_branch(
    name: Slug,
    branch: Slug,
    change: BranchChange,
    request: Request,
    database: CurrentDatabase,
    moderator: Moderator,
    reason: Annotated[Reason, Form()],
    new_name: Annotated[Slug, Form()] = "none",
    share: Annotated[float, Form(ge=0, le=50)] = 0,
    head: Annotated[Sha, Form()] = "0" * 40,
) -> Response:
    """Change a branch. `share` is in percent."""
    changes: dict[BranchChange, Callable[..., AuditEntry]] = {
        BranchChange.PAUSE: branches.pause,
        BranchChange.RESUME: branches.resume,
        BranchChange.APPROVE: branches.approve,
        BranchChange.RENAME: partial(branches.rename, new_name=new_name),
        BranchChange.SHARE: partial(branches.set_share, share=share / 100),
        BranchChange.MOVE: partial(branches.move_head, sha=head),
        BranchChange.DELETE: branches.delete,
    }
    with database.write() as session:
        entry = changes[change](session, act_as(moderator), name, branch, reason=reason).id
    return redirect(request, f"/projects/{name}/branches", f"Done: {change} {branch}. In the audit log: {entry}.")
