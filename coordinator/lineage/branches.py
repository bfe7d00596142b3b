"""Branches: named research directions. A branch is born, its head moves, it is paused and resumed, and each is logged.

(nothing) ──somebody names it, or a draft holds its ground──► ACTIVE ──stalled, and another one leads──► PAUSED
                                                                ▲                                          │
                                                                └──a volunteer chooses it, or it gains─────┘
"""

from sqlalchemy.orm import Session

from coordinator.events import service as activity
from coordinator.http.errors import NotFoundError, SwarmError
from coordinator.lineage import queries
from coordinator.lineage.queries import BranchStatus as BranchStatus
from coordinator.models import Branch, BranchMove, Project, view_of
from shared.contract import Diversity
from shared.events import EventKind
from shared.projects import BranchMoveKind, BranchMoveView, BranchRequest, BranchState, BranchView
from shared.protocol import now

PAUSE_AFTER = 3
"""A branch is paused after this multiple of the experiments without gain that make it stalled."""

BORN = BranchStatus(BranchState.ACTIVE, 0)
"""The status of a new branch, of a resumed one, and of any branch after a gain."""


class BranchExistsError(SwarmError):
    status = 409
    code = "branch-exists"
    title = "The project has a branch of that name"


class TooManyBranchesError(SwarmError):
    """The contract bounds the number of active branches. Branches that stall are paused by themselves."""

    status = 409
    code = "too-many-branches"
    title = "The project has as many active branches as its contract allows"


def create_branch(
    session: Session, project_id: int, name: str, theme: str, head_sha: str, who: str, why: str
) -> Branch:
    """Creates a branch whose head is an existing commit. Raises BranchExistsError."""
    if queries.find_branch(session, project_id, name) is not None:
        raise BranchExistsError(f"Choose another name, or work on {name}.")
    branch = Branch(
        project_id=project_id, name=name, theme=theme, head_sha=head_sha, **BORN._asdict(), gained_experiment_id=None,
        created_at=now(),
    )  # fmt: skip
    session.add(branch)
    session.flush()
    _log(session, branch, BranchMoveKind.BORN, None, who, why)
    activity.record(session, EventKind.BRANCH_BORN, project_id, branch=name, theme=theme, sha=head_sha, by=who, why=why)
    return branch


def has_room(session: Session, project_id: int, rules: Diversity) -> bool:
    """Whether the contract allows one more active branch."""
    rows = queries.list_branch_rows(session, project_id)
    return sum(row.state == BranchState.ACTIVE for row in rows) < rules.max_branches


def request_branch(session: Session, project: Project, rules: Diversity, request: BranchRequest, who: str) -> Branch:
    """Creates a branch for a person. Raises NotFoundError, BranchExistsError, TooManyBranchesError."""
    sha = request.from_sha or project.root_sha
    if queries.find_commit(session, project.id, sha) is None:
        raise NotFoundError(f"{project.name} has no commit {sha}.")
    if not has_room(session, project.id, rules):
        raise TooManyBranchesError(f"The contract allows {rules.max_branches} of them.")
    return create_branch(session, project.id, request.name, request.theme, sha, who, f"{who} named it.")


def move_head(session: Session, branch: Branch, to_sha: str, who: str, why: str) -> None:
    """Moves a branch's head and logs the reason."""
    from_sha, branch.head_sha = branch.head_sha, to_sha
    _log(session, branch, BranchMoveKind.MOVED, from_sha, who, why)
    moved = {"branch": branch.name, "from_sha": from_sha, "to_sha": to_sha, "by": who, "why": why}
    activity.record(session, EventKind.BRANCH_MOVED, branch.project_id, **moved)


def record_gain(session: Session, branch: Branch, experiment_id: int) -> None:
    """Records that an experiment was a gain for its branch, which resumes a paused one."""
    branch.gained_experiment_id, branch.experiments_without_gain = experiment_id, 0
    resume(session, branch, "research-swarm", f"#{experiment_id} gained on it after all.")
    session.flush()


def record_no_gain(session: Session, branch_id: int) -> BranchStatus:
    """Counts an experiment that was no gain for its branch; returns the branch's status after it."""
    return queries.count_without_gain(session, branch_id)


def is_stalled(experiments_without_gain: int, in_flight: int, rules: Diversity) -> bool:
    """Whether a branch should change its axis. Experiments `in_flight` began before that could be known."""
    return experiments_without_gain >= rules.stall_after + in_flight


def may_pause(status: BranchStatus, in_flight: int, rules: Diversity) -> bool:
    """Whether an active branch has stalled for so long that it is paused, unless it leads."""
    without_gain = status.experiments_without_gain // PAUSE_AFTER
    return status.state is BranchState.ACTIVE and is_stalled(without_gain, in_flight, rules)


def pause(session: Session, branch: Branch, why: str) -> None:
    """Pauses a branch."""
    branch.state = BranchState.PAUSED
    _record_change(session, branch, BranchMoveKind.PAUSED, EventKind.BRANCH_PAUSED, "research-swarm", why)


def resume(session: Session, branch: Branch, who: str, why: str) -> None:
    """Makes a paused branch active; does nothing to an active one."""
    if branch.state == BranchState.PAUSED:
        branch.state, branch.experiments_without_gain = BORN
        _record_change(session, branch, BranchMoveKind.RESUMED, EventKind.BRANCH_RESUMED, who, why)


def view_branches(session: Session, project: Project) -> list[BranchView]:
    """The project's branches, oldest first."""
    return [view_branch(session, project, branch) for branch in queries.list_branches(session, project.id)]


def view_branch(session: Session, project: Project, branch: Branch) -> BranchView:
    experiments = queries.count_branch_experiments(session, branch.id)
    return view_of(BranchView, branch, project=project.name, experiments=experiments)


def view_log(session: Session, project: Project, name: str) -> list[BranchMoveView]:
    """A branch's log, oldest first. Raises NotFoundError."""
    moves = queries.list_moves(session, get_branch_by_name(session, project, name).id)
    return [view_of(BranchMoveView, move, by=move.moved_by, at=move.moved_at) for move in moves]


def get_branch_by_name(session: Session, project: Project, name: str) -> Branch:
    """A project's branch. Raises NotFoundError."""
    branch = queries.find_branch(session, project.id, name)
    if branch is None:
        known = ", ".join(row.name for row in queries.list_branch_rows(session, project.id))
        raise NotFoundError(f"{project.name} has no branch {name!r}. It has: {known}.")
    return branch


def _record_change(
    session: Session, branch: Branch, kind: BranchMoveKind, event: EventKind, who: str, why: str
) -> None:
    _log(session, branch, kind, branch.head_sha, who, why)
    activity.record(session, event, branch.project_id, branch=branch.name, by=who, why=why)


def _log(session: Session, branch: Branch, kind: BranchMoveKind, from_sha: str | None, who: str, why: str) -> None:
    session.add(
        BranchMove(
            branch_id=branch.id, kind=kind, from_sha=from_sha, to_sha=branch.head_sha, moved_by=who, why=why,
            moved_at=now(),
        )
    )  # fmt: skip
    session.flush()
