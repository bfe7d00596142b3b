"""Branches: named research directions. A branch is born, its head moves, it is paused and resumed, and each is logged.

(nothing) ──somebody names it, or a draft holds its ground──► ACTIVE ──stalled, and another one leads──► PAUSED
    │                                                          ▲  ▲                                        │
    └──a newcomer names it──► PROPOSED ──a maintainer approves─┘  └──a volunteer chooses it, or it gains───┘

What maintainers change is in `branch_changes.py`; neither a volunteer nor a gain resumes a branch that they paused.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, exists, func, select, update
from sqlalchemy.orm import Session

from coordinator.accounts import service as accounts
from coordinator.db.engine import Conn
from coordinator.db.locks import AdvisoryLock, lock_until_commit
from coordinator.events import service as events
from coordinator.http.errors import NotFoundError, SwarmError
from coordinator.lineage.commits import find_commit
from coordinator.models import Branch, BranchMove, Experiment, Project, table_of, view_of
from shared.contract import Diversity
from shared.events import EventKind
from shared.projects import BranchMoveKind, BranchMoveView, BranchRequest, BranchState, BranchView
from shared.protocol import now


class BranchStatus(NamedTuple):
    """A branch's state, its number of experiments since its last gain, and whether others of its project are active."""

    state: BranchState
    experiments_without_gain: int
    has_others: bool


class BranchName(NamedTuple):
    """The part of a branch that a lease carries."""

    id: int
    name: str
    state: str
    theme: str


class BranchRow(NamedTuple):
    """A branch, as `Branch` stores it."""

    id: int
    name: str
    state: str
    theme: str
    head_sha: str
    experiments_without_gain: int
    gained_experiment_id: int | None
    share: float | None
    is_locked: bool


_BRANCHES, _EXPERIMENTS = table_of(Branch), table_of(Experiment)
_BRANCH_ROWS = (
    select(*(_BRANCHES.c[name] for name in BranchRow._fields))
    .where(_BRANCHES.c.project_id == bindparam("project_id"), _BRANCHES.c.state != BranchState.DELETED)
    .order_by(_BRANCHES.c.id)
)
_BRANCH = select(Branch).where(Branch.id == bindparam("branch_id")).execution_options(populate_existing=True)
_BRANCH_NAMES = select(*(_BRANCHES.c[name] for name in BranchName._fields))
_FIRST_BRANCH = _BRANCH_NAMES.where(_BRANCHES.c.project_id == bindparam("project_id")).order_by(_BRANCHES.c.id).limit(1)
_BRANCH_OF_COMMIT = _BRANCH_NAMES.join(_EXPERIMENTS, _EXPERIMENTS.c.branch_id == _BRANCHES.c.id).where(
    _EXPERIMENTS.c.commit_sha == bindparam("sha")
)
_OTHERS = _BRANCHES.alias()
_COUNT_WITHOUT_GAIN = (
    update(_BRANCHES)
    .where(_BRANCHES.c.id == bindparam("branch_id"))
    .values(experiments=_BRANCHES.c.experiments + 1, experiments_without_gain=_BRANCHES.c.experiments_without_gain + 1)
    .returning(
        _BRANCHES.c.state,
        _BRANCHES.c.experiments_without_gain,
        exists().where(
            _OTHERS.c.project_id == bindparam("of_project"),  # SQLite's columns have no table's name here
            _OTHERS.c.id != bindparam("branch_id"),
            _OTHERS.c.state == BranchState.ACTIVE,
        ),
    )
)

PAUSE_AFTER = 3
"""A branch is paused after this multiple of the experiments without gain that make it stalled."""

BRANCHES_PART = 4
"""An account names one in so many of a project's branches, so that no one takes all places."""

BORN = BranchState.ACTIVE, 0
"""State and number of experiments without gain of a resumed branch."""


class BranchExistsError(SwarmError, status=409, title="The project has a branch of that name"):
    pass


class TooManyBranchesError(
    SwarmError, status=409, title="The project has as many active branches as its contract allows"
):
    """The contract bounds the number of active branches. Branches that stall are paused by themselves."""


def get_branch(session: Session, branch_id: int) -> Branch:
    return session.scalars(_BRANCH, {"branch_id": branch_id}).one()


def list_branches(session: Session, project_id: int) -> Sequence[Branch]:
    is_shown = Branch.project_id == project_id, Branch.state != BranchState.DELETED
    return session.scalars(select(Branch).where(*is_shown).order_by(Branch.id)).all()


def list_branch_rows(session: Conn, project_id: int) -> list[BranchRow]:
    """A project's branches, oldest first."""
    return [BranchRow._make(row) for row in session.execute(_BRANCH_ROWS, {"project_id": project_id}).all()]


def map_names(session: Conn, ids: Sequence[int]) -> dict[int, str]:
    """The names of branches, deleted ones' included, by their number."""
    rows = session.execute(select(_BRANCHES.c.id, _BRANCHES.c.name).where(_BRANCHES.c.id.in_(ids)))
    return {row[0]: row[1] for row in rows}


def find_branch(session: Session, project_id: int, name: str) -> Branch | None:
    return session.scalar(select(Branch).where(Branch.project_id == project_id, Branch.name == name))


def get_branch_of_commit(session: Conn, project_id: int, sha: str) -> BranchName:
    """The branch on which a commit was made; the root belongs to the project's first."""
    row = session.execute(_BRANCH_OF_COMMIT, {"sha": sha}).first()
    return BranchName._make(row or session.execute(_FIRST_BRANCH, {"project_id": project_id}).one())


def create_branch(
    session: Session, project_id: int, name: str, theme: str, head_sha: str, who: str, why: str,
    state: BranchState = BranchState.ACTIVE, volunteer_id: int | None = None,
) -> Branch:  # fmt: skip
    """Creates a branch whose head is an existing commit; `volunteer_id` named it. Raises BranchExistsError."""
    check_name_free(session, project_id, name)
    branch = Branch(
        project_id=project_id, name=name, theme=theme, head_sha=head_sha, state=state, experiments_without_gain=0,
        gained_experiment_id=None, volunteer_id=volunteer_id, created_at=now(),
    )  # fmt: skip
    session.add(branch)
    session.flush()
    if state == BranchState.PROPOSED:
        record_change(session, branch, BranchMoveKind.PROPOSED, EventKind.BRANCH_CHANGED, who, why)
    else:
        log_move(session, branch, BranchMoveKind.BORN, None, who, why)
        born = {"branch": name, "theme": theme, "sha": head_sha, "by": who, "why": why}
        events.record(session, EventKind.BRANCH_BORN, project_id, **born)
    return branch


def check_name_free(session: Session, project_id: int, name: str) -> None:
    """Raise BranchExistsError where the project has a branch of that name."""
    if find_branch(session, project_id, name) is not None:
        raise BranchExistsError(f"Choose another name, or work on {name}.")


def has_room(session: Conn, project_id: int, rules: Diversity) -> bool:
    """Whether the contract allows one more active branch, until the transaction ends."""
    lock_until_commit(session, AdvisoryLock.BRANCHES)
    return [row.state for row in list_branch_rows(session, project_id)].count(BranchState.ACTIVE) < rules.max_branches


def request_branch(
    session: Session, project: Project, rules: Diversity, request: BranchRequest, who: str, volunteer_id: int
) -> Branch:
    """Creates a branch for a person. Raises NotFoundError, BranchExistsError, TooManyBranchesError."""
    sha = request.from_sha or project.root_sha
    if find_commit(session, project.id, sha) is None:
        raise NotFoundError(f"{project.name} has no commit {sha}.")
    state = admit(session, project.id, rules, volunteer_id)
    if state is None:
        raise TooManyBranchesError(
            f"The contract allows {rules.max_branches} of them, and an account names {_allowed(rules)} at a time."
        )
    why = f"{who} named it."
    return create_branch(session, project.id, request.name, request.theme, sha, who, why, state, volunteer_id)


def admit(session: Conn, project_id: int, rules: Diversity, volunteer_id: int) -> BranchState | None:
    """The state of a branch that an account would name now: a newcomer's is a proposal. None where it may name none."""
    lock_until_commit(session, AdvisoryLock.BRANCHES)  # branches that one account names at once are counted in turn
    is_open = Branch.state.in_((BranchState.ACTIVE, BranchState.PROPOSED))
    own = select(func.count()).where(Branch.project_id == project_id, Branch.volunteer_id == volunteer_id, is_open)
    if (session.scalar(own) or 0) >= _allowed(rules):
        return None
    if accounts.is_newcomer(session, volunteer_id):
        return BranchState.PROPOSED
    return BranchState.ACTIVE if has_room(session, project_id, rules) else None


def _allowed(rules: Diversity) -> int:
    """The number of branches that an account may name at a time."""
    return max(1, rules.max_branches // BRANCHES_PART)


def move_head(session: Session, branch: Branch, to_sha: str, who: str, why: str) -> None:
    """Moves a branch's head and logs the reason."""
    from_sha, branch.head_sha = branch.head_sha, to_sha
    log_move(session, branch, BranchMoveKind.MOVED, from_sha, who, why)
    moved = {"branch": branch.name, "from_sha": from_sha, "to_sha": to_sha, "by": who, "why": why}
    events.record(session, EventKind.BRANCH_MOVED, branch.project_id, **moved)


def record_gain(session: Session, branch: Branch, experiment_id: int, *, is_new: bool = True) -> None:
    """Counts an experiment that was a gain for its branch, which resumes a paused one. If it is not new, it was counted
    already."""
    branch.experiments = Branch.experiments + int(is_new)
    branch.gained_experiment_id, branch.experiments_without_gain = experiment_id, 0
    resume(session, branch, "research-swarm", f"#{experiment_id} gained on it after all.")
    session.flush()


def record_no_gain(session: Conn, project_id: int, branch_id: int) -> BranchStatus:
    """Counts an experiment that was no gain for its branch; returns the branch's status after it."""
    given = {"of_project": project_id, "branch_id": branch_id}
    state, without_gain, has_others = session.execute(_COUNT_WITHOUT_GAIN, given).one()
    return BranchStatus(BranchState(state), without_gain, has_others)


def is_stalled(experiments_without_gain: int, in_flight: int, rules: Diversity) -> bool:
    """Whether a branch should change its axis. Experiments `in_flight` began before that could be known."""
    return experiments_without_gain >= rules.stall_after + in_flight


def may_pause(status: BranchStatus, in_flight: int, rules: Diversity) -> bool:
    """Whether an active branch has stalled for so long that it is paused, unless it leads."""
    without_gain = status.experiments_without_gain // PAUSE_AFTER
    is_active = status.state == BranchState.ACTIVE and status.has_others
    return is_active and is_stalled(without_gain, in_flight, rules)


def pause(session: Session, branch: Branch, why: str) -> None:
    """Pauses a branch."""
    branch.state = BranchState.PAUSED
    record_change(session, branch, BranchMoveKind.PAUSED, EventKind.BRANCH_PAUSED, "research-swarm", why)


def resume(session: Session, branch: Branch, who: str, why: str) -> None:
    """Makes a paused branch active; does nothing to another one, nor to one that a maintainer paused."""
    if branch.state == BranchState.PAUSED and not branch.is_locked:
        branch.state, branch.experiments_without_gain = BORN
        record_change(session, branch, BranchMoveKind.RESUMED, EventKind.BRANCH_RESUMED, who, why)


def view_branches(session: Session, project: Project) -> list[BranchView]:
    """The project's branches, oldest first."""
    return [view_branch(project, branch) for branch in list_branches(session, project.id)]


def view_branch(project: Project, branch: Branch) -> BranchView:
    return view_of(BranchView, branch, project=project.name)


def view_log(session: Session, project: Project, name: str) -> list[BranchMoveView]:
    """A branch's log, oldest first. Raises NotFoundError."""
    branch = get_branch_by_name(session, project, name)
    moves = session.scalars(select(BranchMove).where(BranchMove.branch_id == branch.id).order_by(BranchMove.id))
    return [view_of(BranchMoveView, move, by=move.moved_by, at=move.moved_at) for move in moves]


def get_branch_by_name(session: Session, project: Project, name: str) -> Branch:
    """A project's branch. Raises NotFoundError."""
    branch = find_branch(session, project.id, name)
    if branch is None:
        known = ", ".join(row.name for row in list_branch_rows(session, project.id))
        raise NotFoundError(f"{project.name} has no branch {name!r}. It has: {known}.")
    return branch


def record_change(session: Session, branch: Branch, kind: BranchMoveKind, event: EventKind, who: str, why: str) -> None:
    """Writes a change other than a move into the branch's log and the feed."""
    log_move(session, branch, kind, branch.head_sha, who, why)
    events.record(session, event, branch.project_id, branch=branch.name, change=kind, by=who, why=why)


def log_move(session: Session, branch: Branch, kind: BranchMoveKind, from_sha: str | None, who: str, why: str) -> None:
    """Writes into the branch's log."""
    session.add(
        BranchMove(
            branch_id=branch.id, kind=kind, from_sha=from_sha, to_sha=branch.head_sha, moved_by=who, why=why,
            moved_at=now(),
        )
    )  # fmt: skip
    session.flush()
