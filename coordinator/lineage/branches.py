"""Branches: named research directions. They are born, their heads move, they rest and wake, and all of it is logged."""

from sqlalchemy.orm import Session

from coordinator.events import service as activity
from coordinator.http.errors import NotFoundError, SwarmError
from coordinator.lineage import branch_state, queries
from coordinator.lineage.branch_state import BranchLife
from coordinator.models import Branch, BranchMove, Project
from shared.contract import Diversity
from shared.events import EventKind
from shared.projects import Branch as BranchView
from shared.projects import BranchMove as BranchMoveView
from shared.projects import BranchMoveKind, BranchRequest, BranchState
from shared.protocol import now


class BranchExistsError(SwarmError):
    status = 409
    code = "branch-exists"
    title = "The project has a branch of that name"


class TooManyBranchesError(SwarmError):
    """The contract bounds how many branches live at a time; they rest by themselves when they stall."""

    status = 409
    code = "too-many-branches"
    title = "The project has as many living branches as its contract allows"


def create_branch(
    session: Session, project_id: int, name: str, theme: str, head_sha: str, who: str, why: str
) -> Branch:
    """Name a research direction that begins at a commit. Raises BranchExistsError."""
    if queries.find_branch(session, project_id, name) is not None:
        raise BranchExistsError(f"Choose another name, or work on {name}.")
    branch = Branch(
        project_id=project_id, name=name, theme=theme, head_sha=head_sha, state=branch_state.BORN.state,
        fruitless=branch_state.BORN.fruitless, gained_experiment_id=None, created_at=now(),
    )  # fmt: skip
    session.add(branch)
    session.flush()
    _log(session, branch, BranchMoveKind.BORN, None, who, why)
    activity.record(session, EventKind.BRANCH_BORN, project_id, branch=name, theme=theme, sha=head_sha, by=who, why=why)
    return branch


def has_room(session: Session, project_id: int, rules: Diversity) -> bool:
    """Whether one more branch may live."""
    rows = queries.list_branch_rows(session, project_id)
    return sum(row.state == BranchState.LIVING for row in rows) < rules.max_branches


def name_direction(session: Session, project: Project, rules: Diversity, request: BranchRequest, who: str) -> Branch:
    """A person names a direction.

    Raises NotFoundError for an unknown commit, BranchExistsError, TooManyBranchesError.
    """
    sha = request.from_sha or project.root_sha
    if queries.find_commit(session, project.id, sha) is None:
        raise NotFoundError(f"{project.name} has no commit {sha}.")
    if not has_room(session, project.id, rules):
        raise TooManyBranchesError(f"The contract allows {rules.max_branches} of them.")
    return create_branch(session, project.id, request.name, request.theme, sha, who, f"{who} named it.")


def move_head(session: Session, branch: Branch, to_sha: str, who: str, why: str) -> None:
    """Move a branch's head and say why."""
    from_sha, branch.head_sha = branch.head_sha, to_sha
    _log(session, branch, BranchMoveKind.MOVED, from_sha, who, why)
    moved = {"branch": branch.name, "from_sha": from_sha, "to_sha": to_sha, "by": who, "why": why}
    activity.record(session, EventKind.BRANCH_MOVED, branch.project_id, **moved)


def note_gain(session: Session, branch: Branch, experiment_id: int) -> None:
    """Note that an experiment took a branch further, which wakes one that rests."""
    was_resting = branch.state == BranchState.RESTING
    _set_life(branch, branch_state.BORN)
    branch.gained_experiment_id = experiment_id
    session.flush()
    if was_resting:
        why = f"#{experiment_id} gained on it after all."
        _record_turn(session, branch, BranchMoveKind.WOKEN, EventKind.BRANCH_WOKEN, "research-swarm", why)


def note_fruitless(session: Session, branch_id: int) -> BranchLife:
    """Count an experiment that gained nothing on its branch; returns the branch's life after it."""
    return queries.count_fruitless(session, branch_id)


def rest(session: Session, branch: Branch, why: str) -> None:
    """Let a branch rest."""
    _set_life(branch, branch_state.rest(life_of(branch)))
    _record_turn(session, branch, BranchMoveKind.RESTED, EventKind.BRANCH_RESTED, "research-swarm", why)


def wake(session: Session, branch: Branch, who: str, why: str) -> None:
    """Have a branch that rests live again."""
    if branch.state == BranchState.RESTING:
        _set_life(branch, branch_state.BORN)
        _record_turn(session, branch, BranchMoveKind.WOKEN, EventKind.BRANCH_WOKEN, who, why)


def life_of(branch: Branch) -> BranchLife:
    """Whether a branch lives, and for how long it has gained nothing."""
    return BranchLife(BranchState(branch.state), branch.fruitless)


def view_branches(session: Session, project: Project) -> list[BranchView]:
    """The project's branches, oldest first."""
    return [view_branch(session, project, branch) for branch in queries.list_branches(session, project.id)]


def view_branch(session: Session, project: Project, branch: Branch) -> BranchView:
    return BranchView(
        id=branch.id,
        project=project.name,
        name=branch.name,
        theme=branch.theme,
        head_sha=branch.head_sha,
        state=BranchState(branch.state),
        fruitless=branch.fruitless,
        experiments=queries.count_branch_experiments(session, branch.id),
        created_at=branch.created_at,
    )


def view_log(session: Session, project: Project, name: str) -> list[BranchMoveView]:
    """What happened to a branch, oldest first. Raises NotFoundError."""
    return [
        BranchMoveView(
            kind=BranchMoveKind(move.kind),
            from_sha=move.from_sha,
            to_sha=move.to_sha,
            by=move.moved_by,
            why=move.why,
            at=move.moved_at,
        )
        for move in queries.list_moves(session, get_branch_by_name(session, project, name).id)
    ]


def get_branch_by_name(session: Session, project: Project, name: str) -> Branch:
    """A project's branch. Raises NotFoundError."""
    branch = queries.find_branch(session, project.id, name)
    if branch is None:
        known = ", ".join(row.name for row in queries.list_branch_rows(session, project.id))
        raise NotFoundError(f"{project.name} has no branch {name!r}. It has: {known}.")
    return branch


def _set_life(branch: Branch, life: BranchLife) -> None:
    branch.state, branch.fruitless = life.state, life.fruitless


def _record_turn(session: Session, branch: Branch, kind: BranchMoveKind, event: EventKind, who: str, why: str) -> None:
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
