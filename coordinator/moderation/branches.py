"""Maintainers change branches: each change with a reason, an entry in the audit log, and its inverse.

All raise NotFoundError for an unknown project or branch, and NotAllowedError as `service` says.
"""

from sqlalchemy.orm import Session

from coordinator.accounts.service import check_name
from coordinator.events.audit import Actor, State
from coordinator.lineage.branch_changes import BranchStateError, name_of_deleted
from coordinator.lineage.branches import get_branch_by_name
from coordinator.models import AuditEntry, Branch
from coordinator.moderation import service
from coordinator.projects.service import get_project
from shared.moderation import AuditAction, SubjectKind
from shared.projects import BranchState


def pause(session: Session, actor: Actor, project: str, name: str, reason: str) -> AuditEntry:
    """Give a branch no more jobs until a maintainer resumes it. Raises BranchStateError."""
    branch = _get(session, actor, project, name)
    if branch.state == BranchState.PROPOSED:
        raise BranchStateError(f"{name} waits for approval and gets no jobs. Approve or delete it.")
    return _change(session, actor, AuditAction.PAUSE_BRANCH, project, branch, _paused(is_paused=True), reason)


def resume(session: Session, actor: Actor, project: str, name: str, reason: str) -> AuditEntry:
    """Give a paused branch jobs again. Raises BranchStateError, TooManyBranchesError."""
    branch = _get(session, actor, project, name)
    if branch.state == BranchState.PROPOSED:
        raise BranchStateError(f"{name} is a proposal. Approve it.")
    return _change(session, actor, AuditAction.RESUME_BRANCH, project, branch, _paused(is_paused=False), reason)


def approve(session: Session, actor: Actor, project: str, name: str, reason: str) -> AuditEntry:
    """Make a newcomer's proposal a branch. Raises BranchStateError, TooManyBranchesError."""
    branch = _get(session, actor, project, name)
    if branch.state == BranchState.PAUSED:
        raise BranchStateError(f"{name} is no proposal; it is paused. Resume it.")
    changes = {"state": BranchState.ACTIVE.value}
    return _change(session, actor, AuditAction.APPROVE_BRANCH, project, branch, changes, reason)


def rename(session: Session, actor: Actor, project: str, name: str, new_name: str, reason: str) -> AuditEntry:
    """Give a branch another name. Workers that were told to work on the old one are told that there is none. Raises
    BranchExistsError, NameInvalidError."""
    check_name(new_name)
    branch = _get(session, actor, project, name)
    return _change(session, actor, AuditAction.RENAME_BRANCH, project, branch, {"name": new_name}, reason)


def set_share(session: Session, actor: Actor, project: str, name: str, share: float, reason: str) -> AuditEntry:
    """Give a branch a minimum share of the project's jobs; with 0 the contract's. Raises SharesExceededError."""
    branch = _get(session, actor, project, name)
    return _change(session, actor, AuditAction.SHARE_BRANCH, project, branch, {"share": share or None}, reason)


def move_head(session: Session, actor: Actor, project: str, name: str, sha: str, reason: str) -> AuditEntry:
    """Let a branch go on from another commit."""
    branch = _get(session, actor, project, name)
    return _change(session, actor, AuditAction.MOVE_BRANCH, project, branch, {"head_sha": sha}, reason)


def delete(session: Session, actor: Actor, project: str, name: str, reason: str) -> AuditEntry:
    """Delete a branch that is empty: so a proposal is turned down. Raises BranchNotEmptyError."""
    branch = _get(session, actor, project, name)
    changes = {"state": BranchState.DELETED.value, "name": name_of_deleted(branch.id)}
    return _change(session, actor, AuditAction.DELETE_BRANCH, project, branch, changes, reason)


def _paused(*, is_paused: bool) -> State:
    state = BranchState.PAUSED if is_paused else BranchState.ACTIVE
    return {"state": state.value, "is_locked": is_paused}


def _get(session: Session, actor: Actor, project: str, name: str) -> Branch:
    service.take_turn(session, actor)
    return get_branch_by_name(session, get_project(session, project), name)


def _change(
    session: Session, actor: Actor, action: AuditAction, project: str, branch: Branch, changes: State, reason: str
) -> AuditEntry:
    key = f"{project}/{branch.id}"
    return service.change(session, actor, action, SubjectKind.BRANCH, key, changes, reason)
