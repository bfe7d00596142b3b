"""Commits: their rows, and their ancestors and children."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import CTE, ColumnElement, Integer, Select, String, bindparam, insert, select

from coordinator.db.cache import CachePerDatabase
from coordinator.db.engine import Conn, batches
from coordinator.models import Commit, table_of

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


_COMMITS = table_of(Commit)
COMMIT_ROWS = select(*(_COMMITS.c[name] for name in CommitRow._fields))
_COMMIT = COMMIT_ROWS.where(_COMMITS.c.sha == bindparam("sha"))
_COMMITS_OF = COMMIT_ROWS.where(_COMMITS.c.sha.in_(bindparam("shas", expanding=True)))
_CHILDREN = COMMIT_ROWS.where(_COMMITS.c.parent_sha.in_(bindparam("shas", expanding=True))).order_by(_COMMITS.c.sha)
_COMMIT_BY_TREE = (
    COMMIT_ROWS.where(_COMMITS.c.project_id == bindparam("project_id"), _COMMITS.c.tree_sha == bindparam("tree_sha"))
    .order_by(_COMMITS.c.created_at, _COMMITS.c.sha)
    .limit(1)
)
_ADD_COMMIT = insert(_COMMITS)


def _select_nearest() -> Select[str]:
    first = select(_COMMITS.c.sha, _COMMITS.c.parent_sha, bindparam("limit", type_=Integer).label("left"))
    chain = first.where(_COMMITS.c.sha == bindparam("sha")).cte("chain", recursive=True)
    above = select(_COMMITS.c.sha, _COMMITS.c.parent_sha, chain.c.left - 1)
    chain = chain.union_all(above.join(chain, _COMMITS.c.sha == chain.c.parent_sha).where(chain.c.left > 1))
    return select(chain.c.sha).order_by(chain.c.left.desc())


def _select_nearest_among() -> Select[str, str, int]:
    """For each of `shas` the nearest commit that is among others, or is another one of `shas`, from where that one's
    row goes on: lines that have most of their commits in common are not gone through once for each."""
    among, starts = (bindparam(name, type_=String, expanding=True) for name in ("among", "shas"))
    left = bindparam("limit", type_=Integer).label("left")
    first = select(_COMMITS.c.sha.label("start"), _COMMITS.c.sha, _COMMITS.c.parent_sha, left)
    chain = first.where(_COMMITS.c.sha.in_(starts)).cte("chain", recursive=True)
    above = select(chain.c.start, _COMMITS.c.sha, _COMMITS.c.parent_sha, chain.c.left - 1)
    above = above.join(chain, _COMMITS.c.sha == chain.c.parent_sha)

    def is_end(row: CTE) -> ColumnElement[bool]:
        return row.c.sha.in_(among) | (row.c.sha.in_(starts) & (row.c.sha != row.c.start))

    chain = chain.union_all(above.where(chain.c.left > 1, ~is_end(chain)))
    return select(chain.c.start, chain.c.sha, chain.c.left).where(is_end(chain))


_NEAREST, _NEAREST_AMONG = _select_nearest(), _select_nearest_among()
_LINES = CachePerDatabase[tuple[str, int], list[str]](2_048)
"""Recently read short lines of ancestors, 1.5 kB each. A commit's sha determines its ancestors, so none gets stale."""

_KNOWN = CachePerDatabase[str, CommitRow](2_048)


def find_commit(session: Conn, project_id: int, sha: str) -> CommitRow | None:
    known = _KNOWN.for_database(session)
    commit = known.find(sha)
    if commit is None and (row := session.execute(_COMMIT, {"sha": sha}).first()):
        commit = known.store(sha, CommitRow._make(row))
    return commit if commit is not None and commit.project_id == project_id else None


def get_commit(session: Conn, sha: str) -> CommitRow:
    """A commit that exists. Commits never change, so those read lately are kept."""
    known = _KNOWN.for_database(session)
    if (commit := known.find(sha)) is None:
        commit = known.store(sha, CommitRow._make(session.execute(_COMMIT, {"sha": sha}).one()))
    return commit


def list_commits(session: Conn, shas: Sequence[str]) -> list[CommitRow]:
    """Commits that exist, in whatever order."""
    parts = (session.execute(_COMMITS_OF, {"shas": some}) for some in batches(shas))
    return [CommitRow._make(row) for rows in parts for row in rows]


def add_commit(session: Conn, columns: Mapping[str, Any]) -> None:
    session.execute(_ADD_COMMIT, columns)


def list_nearest(session: Conn, sha: str, limit: int) -> list[str]:
    """The names of the commit itself and its nearest ancestors, in this order, `limit` in all."""
    lines = _LINES.for_database(session)
    known = lines.find((sha, limit))
    if known is None:
        known = [name for (name,) in session.execute(_NEAREST, {"sha": sha, "limit": limit}).all()]
        if known and len(known) <= MAX_CACHED_LINE:
            lines.store((sha, limit), known)
    return list(known)


def map_nearest(session: Conn, shas: Collection[str], among: Collection[str], limit: int) -> dict[str, str]:
    """For commits the nearest one `among` others: itself or an ancestor, `limit` looked at. Some may have none."""
    if not shas or not among:
        return {}
    given = {"shas": sorted(shas), "among": sorted(among), "limit": limit}
    ends = {start: (sha, limit - left) for start, sha, left in session.execute(_NEAREST_AMONG, given)}
    found = {}
    for start, (at, far) in ends.items():
        while at not in among and at in ends and far < limit:
            at, further = ends[at]
            far += further
        if at in among and far < limit:
            found[start] = at
    return found


def list_children(session: Conn, shas: Sequence[str], limit: int | None = None) -> list[CommitRow]:
    """Commits that were made from these, by name, at most `limit`."""
    query = _CHILDREN if limit is None else _CHILDREN.limit(limit)
    return [CommitRow._make(row) for row in session.execute(query, {"shas": list(shas)}).all()]


def find_commit_by_tree(session: Conn, project_id: int, tree_sha: str) -> CommitRow | None:
    """The first commit that holds exactly these files."""
    row = session.execute(_COMMIT_BY_TREE, {"project_id": project_id, "tree_sha": tree_sha}).first()
    return CommitRow._make(row) if row else None
