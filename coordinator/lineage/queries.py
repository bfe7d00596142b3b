"""Questions about commits and branches."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Integer, Select, bindparam, func, insert, select
from sqlalchemy.orm import Session

from coordinator.models import Branch, BranchMove, Commit, Experiment, table_of


class BranchRow(NamedTuple):
    """A branch without its theme."""

    id: int
    name: str
    head_sha: str
    state: str
    fruitless: int
    gained_experiment_id: int | None


_COMMITS, _BRANCHES = table_of(Commit), table_of(Branch)
_BRANCH_ROWS = (
    select(*(_BRANCHES.c[name] for name in BranchRow._fields))
    .where(_BRANCHES.c.project_id == bindparam("project_id"))
    .order_by(_BRANCHES.c.id)
)
_COMMIT = select(Commit).where(Commit.sha == bindparam("sha"))
_CHILDREN = select(Commit).where(Commit.parent_sha.in_(bindparam("shas", expanding=True))).order_by(Commit.sha)
_COMMIT_BY_TREE = (
    select(Commit)
    .where(Commit.project_id == bindparam("project_id"), Commit.tree_sha == bindparam("tree_sha"))
    .order_by(Commit.created_at, Commit.sha)
    .limit(1)
)
_ADD_COMMIT = insert(_COMMITS)
_BRANCH = select(Branch).where(Branch.id == bindparam("branch_id"))
_BRANCH_OF_COMMIT = (
    select(Branch).join(Experiment, Experiment.branch_id == Branch.id).where(Experiment.commit_sha == bindparam("sha"))
)


def _select_nearest() -> Select[str]:
    first = select(_COMMITS.c.sha, _COMMITS.c.parent_sha, bindparam("limit", type_=Integer).label("left"))
    chain = first.where(_COMMITS.c.sha == bindparam("sha")).cte("chain", recursive=True)
    above = select(_COMMITS.c.sha, _COMMITS.c.parent_sha, chain.c.left - 1)
    chain = chain.union_all(above.join(chain, _COMMITS.c.sha == chain.c.parent_sha).where(chain.c.left > 1))
    return select(chain.c.sha)


_NEAREST = _select_nearest()


def find_commit(session: Session, project_id: int, sha: str) -> Commit | None:
    commit = session.scalar(_COMMIT, {"sha": sha})
    return commit if commit is not None and commit.project_id == project_id else None


def get_commit(session: Session, sha: str) -> Commit:
    commit = session.scalar(_COMMIT, {"sha": sha})
    assert commit is not None, "a foreign key promised this commit"
    return commit


def add_commit(session: Session, columns: Mapping[str, Any]) -> None:
    session.execute(_ADD_COMMIT, columns)


def list_nearest(session: Session, sha: str, limit: int) -> list[str]:
    """The names of the commit itself and its nearest ancestors, `limit` in all."""
    return list(session.scalars(_NEAREST, {"sha": sha, "limit": limit}))


def list_children(session: Session, shas: Sequence[str]) -> Sequence[Commit]:
    return session.scalars(_CHILDREN, {"shas": list(shas)}).all()


def find_commit_by_tree(session: Session, project_id: int, tree_sha: str) -> Commit | None:
    """The first commit that holds exactly these files."""
    return session.scalar(_COMMIT_BY_TREE, {"project_id": project_id, "tree_sha": tree_sha})


def get_branch(session: Session, branch_id: int) -> Branch:
    branch = session.scalar(_BRANCH, {"branch_id": branch_id})
    assert branch is not None, "a foreign key promised this branch"
    return branch


def list_branches(session: Session, project_id: int) -> Sequence[Branch]:
    return session.scalars(select(Branch).where(Branch.project_id == project_id).order_by(Branch.id)).all()


def list_branch_rows(session: Session, project_id: int) -> list[BranchRow]:
    """A project's branches, oldest first."""
    return [BranchRow(*row) for row in session.execute(_BRANCH_ROWS, {"project_id": project_id})]


def find_branch(session: Session, project_id: int, name: str) -> Branch | None:
    return session.scalar(select(Branch).where(Branch.project_id == project_id, Branch.name == name))


def list_moves(session: Session, branch_id: int) -> Sequence[BranchMove]:
    """A branch's log, oldest first."""
    return session.scalars(select(BranchMove).where(BranchMove.branch_id == branch_id).order_by(BranchMove.id)).all()


def get_branch_of_commit(session: Session, project_id: int, sha: str) -> Branch:
    """The branch on which a commit was made; the root belongs to the project's first."""
    return session.scalar(_BRANCH_OF_COMMIT, {"sha": sha}) or list_branches(session, project_id)[0]


def count_branch_experiments(session: Session, branch_id: int) -> int:
    return session.scalar(select(func.count()).where(Experiment.branch_id == branch_id)) or 0
