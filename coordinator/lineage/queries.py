"""Queries on commits and branches."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Integer, Select, bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from coordinator.db.cache import Cache, CachePerDatabase
from coordinator.models import Branch, BranchMove, Commit, Experiment, table_of
from shared.projects import BranchState

MAX_CACHED_LINE = 16
"""Maximum number of commits in a cached line of ancestors."""


class CommitRow(NamedTuple):
    """A commit, as `Commit` stores it."""

    sha: str
    project_id: int
    parent_sha: str | None
    tree_sha: str
    depth: int
    has_code: bool
    steps: int


class BranchStatus(NamedTuple):
    """A branch's state, and its number of experiments since its last gain."""

    state: BranchState
    experiments_without_gain: int


class BranchName(NamedTuple):
    """The part of a branch that a lease carries."""

    id: int
    name: str
    state: str
    theme: str


class BranchRow(NamedTuple):
    """A branch without its theme."""

    id: int
    name: str
    head_sha: str
    state: str
    experiments_without_gain: int
    gained_experiment_id: int | None


_COMMITS, _BRANCHES, _EXPERIMENTS = table_of(Commit), table_of(Branch), table_of(Experiment)
_BRANCH_ROWS = (
    select(*(_BRANCHES.c[name] for name in BranchRow._fields))
    .where(_BRANCHES.c.project_id == bindparam("project_id"))
    .order_by(_BRANCHES.c.id)
)
COMMIT_ROWS = select(*(_COMMITS.c[name] for name in CommitRow._fields))
_COMMIT = COMMIT_ROWS.where(_COMMITS.c.sha == bindparam("sha"))
_CHILDREN = COMMIT_ROWS.where(_COMMITS.c.parent_sha.in_(bindparam("shas", expanding=True))).order_by(_COMMITS.c.sha)
_COMMIT_BY_TREE = (
    COMMIT_ROWS.where(_COMMITS.c.project_id == bindparam("project_id"), _COMMITS.c.tree_sha == bindparam("tree_sha"))
    .order_by(_COMMITS.c.created_at, _COMMITS.c.sha)
    .limit(1)
)
_ADD_COMMIT = insert(_COMMITS)
_BRANCH = select(Branch).where(Branch.id == bindparam("branch_id")).execution_options(populate_existing=True)
_BRANCH_NAMES = select(*(_BRANCHES.c[name] for name in BranchName._fields))
_BRANCH_NAME = _BRANCH_NAMES.where(_BRANCHES.c.id == bindparam("branch_id"))
_BRANCH_OF_COMMIT = _BRANCH_NAMES.join(_EXPERIMENTS, _EXPERIMENTS.c.branch_id == _BRANCHES.c.id).where(
    _EXPERIMENTS.c.commit_sha == bindparam("sha")
)

_COUNT_WITHOUT_GAIN = (
    update(_BRANCHES)
    .where(_BRANCHES.c.id == bindparam("branch_id"))
    .values(experiments_without_gain=_BRANCHES.c.experiments_without_gain + 1)
    .returning(_BRANCHES.c.state, _BRANCHES.c.experiments_without_gain)
)


def _select_nearest() -> Select[str]:
    first = select(_COMMITS.c.sha, _COMMITS.c.parent_sha, bindparam("limit", type_=Integer).label("left"))
    chain = first.where(_COMMITS.c.sha == bindparam("sha")).cte("chain", recursive=True)
    above = select(_COMMITS.c.sha, _COMMITS.c.parent_sha, chain.c.left - 1)
    chain = chain.union_all(above.join(chain, _COMMITS.c.sha == chain.c.parent_sha).where(chain.c.left > 1))
    return select(chain.c.sha).order_by(chain.c.left.desc())


_NEAREST = _select_nearest()
_LINES = Cache[tuple[str, int], list[str]](2_048)
"""Recently read short lines of ancestors, 1.5 kB each. A commit's sha determines its ancestors, so none gets stale."""

_KNOWN = CachePerDatabase[str, CommitRow](2_048)


def find_commit(session: Session, project_id: int, sha: str) -> CommitRow | None:
    row = session.execute(_COMMIT, {"sha": sha}).first()
    commit = CommitRow._make(row) if row else None
    return commit if commit is not None and commit.project_id == project_id else None


def get_commit(session: Session, sha: str) -> CommitRow:
    """A commit that exists. Commits never change, so those read lately are kept."""
    known = _KNOWN.for_database(session)
    if (commit := known.find(sha)) is None:
        row = session.execute(_COMMIT, {"sha": sha}).first()
        assert row is not None, "a foreign key promised this commit"
        commit = known.store(sha, CommitRow._make(row))
    return commit


def add_commit(session: Session, columns: Mapping[str, Any]) -> None:
    session.execute(_ADD_COMMIT, columns)


def list_nearest(session: Session, sha: str, limit: int) -> list[str]:
    """The names of the commit itself and its nearest ancestors, in this order, `limit` in all."""
    known = _LINES.find((sha, limit))
    if known is None:
        known = [name for (name,) in session.execute(_NEAREST, {"sha": sha, "limit": limit}).all()]
        if known and limit <= MAX_CACHED_LINE:
            _LINES.store((sha, limit), known)
    return list(known)


def list_children(session: Session, shas: Sequence[str]) -> list[CommitRow]:
    return [CommitRow._make(row) for row in session.execute(_CHILDREN, {"shas": list(shas)}).all()]


def find_commit_by_tree(session: Session, project_id: int, tree_sha: str) -> CommitRow | None:
    """The first commit that holds exactly these files."""
    row = session.execute(_COMMIT_BY_TREE, {"project_id": project_id, "tree_sha": tree_sha}).first()
    return CommitRow._make(row) if row else None


def get_branch(session: Session, branch_id: int) -> Branch:
    branch = session.scalar(_BRANCH, {"branch_id": branch_id})
    assert branch is not None, "a foreign key promised this branch"
    return branch


def count_without_gain(session: Session, branch_id: int) -> BranchStatus:
    """Counts one more experiment without a gain; returns the branch's status after it."""
    row = session.execute(_COUNT_WITHOUT_GAIN, {"branch_id": branch_id}).first()
    assert row is not None, "a foreign key promised this branch"
    return BranchStatus(BranchState(row[0]), row[1])


def list_branches(session: Session, project_id: int) -> Sequence[Branch]:
    return session.scalars(select(Branch).where(Branch.project_id == project_id).order_by(Branch.id)).all()


def list_branch_rows(session: Session, project_id: int) -> list[BranchRow]:
    """A project's branches, oldest first."""
    return [BranchRow._make(row) for row in session.execute(_BRANCH_ROWS, {"project_id": project_id}).all()]


def find_branch(session: Session, project_id: int, name: str) -> Branch | None:
    return session.scalar(select(Branch).where(Branch.project_id == project_id, Branch.name == name))


def list_moves(session: Session, branch_id: int) -> Sequence[BranchMove]:
    """A branch's log, oldest first."""
    return session.scalars(select(BranchMove).where(BranchMove.branch_id == branch_id).order_by(BranchMove.id)).all()


def get_branch_name(session: Session, branch_id: int) -> BranchName:
    row = session.execute(_BRANCH_NAME, {"branch_id": branch_id}).first()
    assert row is not None, "a foreign key promised this branch"
    return BranchName._make(row)


def get_branch_of_commit(session: Session, project_id: int, sha: str) -> BranchName:
    """The branch on which a commit was made; the root belongs to the project's first."""
    row = session.execute(_BRANCH_OF_COMMIT, {"sha": sha}).first()
    if row is not None:
        return BranchName._make(row)
    first = list_branches(session, project_id)[0]
    return BranchName(first.id, first.name, first.state, first.theme)


def count_branch_experiments(session: Session, branch_id: int) -> int:
    return session.scalar(select(func.count()).where(Experiment.branch_id == branch_id)) or 0
