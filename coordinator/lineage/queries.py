"""Questions about commits and branches."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.models import Branch, Commit, Experiment


def find_commit(session: Session, project_id: int, sha: str) -> Commit | None:
    commit = session.get(Commit, sha)
    return commit if commit is not None and commit.project_id == project_id else None


def get_commit(session: Session, sha: str) -> Commit:
    commit = session.get(Commit, sha)
    assert commit is not None, "a foreign key promised this commit"
    return commit


def list_ancestors(session: Session, sha: str, limit: int | None = None) -> Sequence[Commit]:
    """The commit itself and its ancestors, nearest first; `limit` of them, or up to the root."""
    chain = select(Commit.sha, Commit.parent_sha, Commit.depth).where(Commit.sha == sha).cte("chain", recursive=True)
    above = select(Commit.sha, Commit.parent_sha, Commit.depth).join(chain, Commit.sha == chain.c.parent_sha)
    if limit is not None:
        depth = select(Commit.depth).where(Commit.sha == sha).scalar_subquery()
        above = above.where(Commit.depth > depth - limit)
    chain = chain.union_all(above)
    return session.scalars(
        select(Commit).where(Commit.sha.in_(select(chain.c.sha))).order_by(Commit.depth.desc())
    ).all()


def list_children(session: Session, shas: Sequence[str]) -> Sequence[Commit]:
    return session.scalars(select(Commit).where(Commit.parent_sha.in_(shas)).order_by(Commit.sha)).all()


def find_commit_by_tree(session: Session, project_id: int, tree_sha: str) -> Commit | None:
    """The first commit that holds exactly these files."""
    return session.scalar(
        select(Commit)
        .where(Commit.project_id == project_id, Commit.tree_sha == tree_sha)
        .order_by(Commit.created_at, Commit.sha)
        .limit(1)
    )


def get_branch(session: Session, branch_id: int) -> Branch:
    branch = session.get(Branch, branch_id)
    assert branch is not None, "a foreign key promised this branch"
    return branch


def list_branches(session: Session, project_id: int) -> Sequence[Branch]:
    return session.scalars(select(Branch).where(Branch.project_id == project_id).order_by(Branch.id)).all()


def get_branch_of_commit(session: Session, project_id: int, sha: str) -> Branch:
    """The branch on which a commit was made; the root belongs to the project's first."""
    query = select(Branch).join(Experiment, Experiment.branch_id == Branch.id).where(Experiment.commit_sha == sha)
    return session.scalar(query) or list_branches(session, project_id)[0]


def count_branch_experiments(session: Session, branch_id: int) -> int:
    return session.scalar(select(func.count()).where(Experiment.branch_id == branch_id)) or 0
