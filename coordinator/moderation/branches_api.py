"""Changes of branches by maintainers, over HTTP. Each request has a reason and is in the audit log."""

from fastapi import APIRouter

from coordinator.accounts.permissions import Permission
from coordinator.accounts.security import BearerToken
from coordinator.db.database import WriteSession
from coordinator.http.parameters import KNOWN_ONLY
from coordinator.moderation import branches
from coordinator.moderation.api import act
from coordinator.moderation.service import view
from shared.moderation import AuditView, BranchHeadMove, BranchRename, BranchShare, Explained
from shared.protocol import API_PREFIX, Slug

router = APIRouter(
    prefix=f"{API_PREFIX}/projects/{{name}}/branches/{{branch}}", tags=["duties"], dependencies=KNOWN_ONLY
)


@router.post("/pause")
def pause_branch(name: Slug, branch: Slug, asked: Explained, token: BearerToken, session: WriteSession) -> AuditView:
    """Give a branch no more jobs until a maintainer resumes it."""
    return view(branches.pause(session, act(session, token, Permission.STEER), name, branch, asked.reason))


@router.post("/resumption")
def resume_branch(name: Slug, branch: Slug, asked: Explained, token: BearerToken, session: WriteSession) -> AuditView:
    """Give a paused branch jobs again."""
    return view(branches.resume(session, act(session, token, Permission.STEER), name, branch, asked.reason))


@router.post("/approval")
def approve_branch(name: Slug, branch: Slug, asked: Explained, token: BearerToken, session: WriteSession) -> AuditView:
    """Make a newcomer's proposal a branch."""
    return view(branches.approve(session, act(session, token, Permission.STEER), name, branch, asked.reason))


@router.post("/name")
def rename_branch(
    name: Slug, branch: Slug, asked: BranchRename, token: BearerToken, session: WriteSession
) -> AuditView:
    """Give a branch another name."""
    actor = act(session, token, Permission.STEER)
    return view(branches.rename(session, actor, name, branch, asked.name, asked.reason))


@router.post("/share")
def share_branch(name: Slug, branch: Slug, asked: BranchShare, token: BearerToken, session: WriteSession) -> AuditView:
    """Give a branch a minimum share of the project's jobs."""
    actor = act(session, token, Permission.STEER)
    return view(branches.set_share(session, actor, name, branch, asked.share, asked.reason))


@router.post("/head")
def move_branch(
    name: Slug, branch: Slug, asked: BranchHeadMove, token: BearerToken, session: WriteSession
) -> AuditView:
    """Let a branch go on from another commit."""
    actor = act(session, token, Permission.STEER)
    return view(branches.move_head(session, actor, name, branch, asked.head_sha, asked.reason))


@router.post("/deletion")
def delete_branch(name: Slug, branch: Slug, asked: Explained, token: BearerToken, session: WriteSession) -> AuditView:
    """Delete a branch that is empty."""
    return view(branches.delete(session, act(session, token, Permission.STEER), name, branch, asked.reason))
