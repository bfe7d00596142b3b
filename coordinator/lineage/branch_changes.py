"""Changes of branches by maintainers. Each is logged with its reason, and takes back what an earlier one did.

A deleted branch keeps its row and log, so that deleting is undone by giving it its state and name again.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.http.errors import NotFoundError, SwarmError
from coordinator.lineage import branches
from coordinator.lineage.commits import find_commit
from coordinator.models import Branch, Experiment, Lease
from shared.contract import Diversity
from shared.events import EventKind
from shared.leases import LeaseState
from shared.projects import BranchMoveKind, BranchState

COLUMNS = ("name", "state", "is_locked", "share", "head_sha")
"""The columns of a branch that maintainers change."""

MAX_SHARES = 0.9
"""Largest sum of the minimum shares that maintainers give to a project's branches."""

_ENDED_FOR_GOOD = (LeaseState.DONE, LeaseState.RELEASED)


class BranchNotEmptyError(SwarmError, status=409, title="The branch is not empty"):
    """Only a branch without experiments and without jobs that may still bring some is deleted. Pause it instead."""


class BranchStateError(SwarmError, status=409, title="The branch's state does not allow that"):
    pass


class SharesExceededError(SwarmError, status=409, title="The branches' shares add up to too much"):
    pass


def find_locked(session: Session, project_id: int, branch_id: int) -> Branch | None:
    """A branch of a project, deleted or not, its row locked until the transaction ends: also for jobs and experiments
    that come to be on it, as its name may change, and as one that is deleted must be empty."""
    query = select(Branch).where(Branch.id == branch_id, Branch.project_id == project_id)
    return session.scalar(query.with_for_update(key_share=False).execution_options(populate_existing=True))


def name_of_deleted(branch_id: int) -> str:
    """The name of a deleted branch, which nobody can give to another one."""
    return f"~{branch_id}"


def change_branch(
    session: Session, branch: Branch, changes: Mapping[str, Any], rules: Diversity, who: str, why: str
) -> None:
    """Give a branch other values of some of COLUMNS. Raises BranchExistsError, TooManyBranchesError,
    BranchNotEmptyError, SharesExceededError, NotFoundError for an unknown commit."""
    old_name = branch.name
    if changes.get("state") == BranchState.DELETED:
        _check_empty(session, branch)
    if "name" in changes:
        branches.check_name_free(session, branch.project_id, changes["name"])
        branch.name = changes["name"]
    if changes.get("share") is not None:
        _check_shares(session, branch, changes["share"])
    if "share" in changes:
        branch.share = changes["share"]
    branch.is_locked = changes.get("is_locked", branch.is_locked)
    if "state" in changes:
        _change_state(session, branch, BranchState(changes["state"]), rules, who, why)
    elif "head_sha" in changes:
        if find_commit(session, branch.project_id, changes["head_sha"]) is None:
            raise NotFoundError(f"The project has no commit {changes['head_sha']}.")
        branches.move_head(session, branch, changes["head_sha"], who, why)
    elif "name" in changes:
        why = f"It was {old_name}. {why}"
        branches.record_change(session, branch, BranchMoveKind.RENAMED, EventKind.BRANCH_CHANGED, who, why)
    elif "share" in changes:
        branches.record_change(session, branch, BranchMoveKind.SHARED, EventKind.BRANCH_CHANGED, who, why)
    session.flush()


def _change_state(session: Session, branch: Branch, to: BranchState, rules: Diversity, who: str, why: str) -> None:
    before = BranchState(branch.state)
    if to == BranchState.ACTIVE and before != BranchState.ACTIVE:
        if not branches.has_room(session, branch.project_id, rules):
            raise branches.TooManyBranchesError(f"The contract allows {rules.max_branches}: pause another one first.")
        branch.experiments_without_gain = 0
    branch.state = to
    kind, event = _describe(before, to)
    branches.record_change(session, branch, kind, event, who, why)


def _describe(before: BranchState, to: BranchState) -> tuple[BranchMoveKind, EventKind]:
    """The entry of the branch's log, and the event, for a change of state."""
    if before == BranchState.DELETED:
        return BranchMoveKind.RESTORED, EventKind.BRANCH_CHANGED
    if to == BranchState.PAUSED:
        return BranchMoveKind.PAUSED, EventKind.BRANCH_PAUSED
    if to == BranchState.ACTIVE and before == BranchState.PAUSED:
        return BranchMoveKind.RESUMED, EventKind.BRANCH_RESUMED
    kinds = {BranchState.ACTIVE: BranchMoveKind.APPROVED, BranchState.DELETED: BranchMoveKind.DELETED}
    return kinds.get(to, BranchMoveKind.PROPOSED), EventKind.BRANCH_CHANGED


def _check_empty(session: Session, branch: Branch) -> None:
    first = session.scalar(select(func.min(Branch.id)).where(Branch.project_id == branch.project_id))
    if branch.id == first:
        raise BranchNotEmptyError("It is the project's first branch, which the seed belongs to.")
    is_open = Lease.branch_id == branch.id, Lease.state.not_in(_ENDED_FOR_GOOD)
    for query, things in (
        (select(func.count()).where(Experiment.branch_id == branch.id), "experiments"),
        (select(func.count()).select_from(Lease).where(*is_open), "jobs whose result may still come"),
    ):
        if count := session.scalar(query):
            raise BranchNotEmptyError(f"It has {count} {things}. Pause it instead.")


def _check_shares(session: Session, branch: Branch, share: float) -> None:
    rows = branches.list_branch_rows(session, branch.project_id)
    others = sum(row.share or 0.0 for row in rows if row.id != branch.id)
    if share + others > MAX_SHARES:
        raise SharesExceededError(f"Those of the others are {others:.0%}, and {MAX_SHARES:.0%} may be given in all.")
