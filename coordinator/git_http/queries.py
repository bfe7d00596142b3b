"""Queries of the git remote. Results that may be large are read in pages, so that memory stays bounded."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session, aliased

from coordinator.lineage.objects import ObjectRow
from coordinator.models import Branch, Commit, Experiment, StoredObject
from shared.projects import BranchState

SHAS_PER_QUERY = 500
PAGE_ROWS = 1000

_Parent = aliased(Commit)


class CommitTrees(NamedTuple):
    """A commit with its parent's tree (None for the root). `depth` is its distance from the root."""

    sha: str
    parent_sha: str | None
    tree_sha: str
    parent_tree_sha: str | None
    depth: int


class Ref(NamedTuple):
    """A git ref: a name for a commit."""

    name: str
    sha: str


def list_branch_refs(session: Session, project_id: int) -> list[Ref]:
    """The project's branches without proposals, oldest first."""
    is_one = Branch.project_id == project_id, Branch.state.in_((BranchState.ACTIVE, BranchState.PAUSED))
    query = select(Branch.name, Branch.head_sha).where(*is_one).order_by(Branch.id)
    return [Ref(f"refs/heads/{name}", sha) for name, sha in session.execute(query)]


def list_experiment_refs(session: Session, project_id: int) -> Iterator[Ref]:
    """A tag `experiments/ID` for each experiment whose code is there, oldest first."""
    last_id = 0
    while True:
        query = select(Experiment.id, Experiment.commit_sha).join(Commit, Commit.sha == Experiment.commit_sha)
        query = query.where(Experiment.project_id == project_id, Commit.has_code)
        page = session.execute(query.where(Experiment.id > last_id).order_by(Experiment.id).limit(PAGE_ROWS)).all()
        for last_id, sha in page:
            yield Ref(f"refs/tags/experiments/{last_id}", sha)
        if len(page) < PAGE_ROWS:
            return


def find_commits(session: Session, project_id: int, shas: Iterable[str]) -> dict[str, CommitTrees]:
    """The commits of the project among `shas`."""
    found: dict[str, CommitTrees] = {}
    for some in _batched(shas):
        # Of the project's number as it stands SQLite, which keeps no statistics, would go through all of its commits.
        query = _commits().where(Commit.sha.in_(some), Commit.project_id + 0 == project_id)
        found |= {row.sha: row for row in _read_commits(session, query)}
    return found


def list_lineage(session: Session, shas: Collection[str], floor: int) -> Iterator[CommitTrees]:
    """The commits and their ancestors down to the depth `floor`. Shared ancestors may come twice."""
    for some in _batched(shas):
        chain = select(Commit.sha, Commit.parent_sha).where(Commit.sha.in_(some)).cte("chain", recursive=True)
        parents = select(Commit.sha, Commit.parent_sha).join(chain, Commit.sha == chain.c.parent_sha)
        chain = chain.union(parents.where(Commit.depth >= floor))
        yield from _read_commits(session, _commits().where(Commit.sha.in_(select(chain.c.sha))))


def list_all_commits(session: Session, project_id: int) -> Iterator[CommitTrees]:
    """Every commit of the project, in the order of an index."""
    order = (Commit.tree_sha, Commit.sha)
    last = ("", "")
    while True:
        query = _commits().where(Commit.project_id == project_id, tuple_(*order) > last)
        page = _read_commits(session, query.order_by(*order).limit(PAGE_ROWS))
        yield from page
        if len(page) < PAGE_ROWS:
            return
        last = (page[-1].tree_sha, page[-1].sha)


def list_stored_objects(session: Session, shas: Sequence[str]) -> list[ObjectRow]:
    """The rows of the stored objects among `shas`, in no particular order."""
    columns = (getattr(StoredObject, name) for name in ObjectRow._fields)
    return [ObjectRow(*row) for row in session.execute(select(*columns).where(StoredObject.sha.in_(shas)))]


def _batched(shas: Iterable[str]) -> Iterator[list[str]]:
    left = iter(shas)
    while batch := list(islice(left, SHAS_PER_QUERY)):
        yield batch


def _commits() -> Select[*tuple[Any, ...]]:
    columns = (Commit.sha, Commit.parent_sha, Commit.tree_sha, _Parent.tree_sha, Commit.depth)
    return select(*columns).outerjoin(_Parent, _Parent.sha == Commit.parent_sha)


def _read_commits(session: Session, query: Select[*tuple[Any, ...]]) -> list[CommitTrees]:
    return [CommitTrees(*row) for row in session.execute(query)]
