"""The tree of a project's commits, collapsed to what can be drawn: its best and newest commits with their ancestors, or
a commit with its nearest descendants. Commits on the way that have one child are left out where there are too many.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.db.engine import LabelledRow
from coordinator.models import Project
from coordinator.projects import service as projects
from coordinator.records import queries, tree_queries
from coordinator.records.tree_queries import TreeLink

MOST_NODES = 600
"""Number of nodes of a picture, about 60 KiB of JSON; what hangs below one that has more is asked for with it."""

MAX_CLIMBED = 6_000
"""Ancestors that are read until their lines meet; where the tree is deeper, what lies between is counted and not
drawn."""

MOST_CHILDREN = 20
"""Children of a commit up to which they are counted."""


class TreeSize(NamedTuple):
    """The number of nodes to show at most, and of the best and the newest commits from which they are found."""

    nodes: int
    best: int
    newest: int


DRAWN = TreeSize(MOST_NODES, 250, 150)
LISTED = TreeSize(80, 30, 10)


class TreeNode(NamedTuple):
    """A commit in the tree. `parent` is its parent's place in the list, -1 for the first; `skipped` commits lie between
    the two. `hidden` of its children are not shown, or more where the count `is_capped`."""

    row: LabelledRow
    parent: int
    level: int
    skipped: int
    hidden: int
    is_capped: bool
    is_on_path: bool


class ProjectTree(NamedTuple):
    """A tree in preorder, and the best commit, a record or else the leader."""

    nodes: list[TreeNode]
    best_sha: str | None
    is_record: bool


class _Place(NamedTuple):
    sha: str
    parent: int
    level: int
    skipped: int


def view_tree(
    session: Session, project: Project, hardware_class: str | None, start: str | None, size: TreeSize
) -> ProjectTree:
    """The tree as measured in a hardware class; below the commit `start`, if one is given."""
    of_class = hardware_class or ""
    record = queries.find_best(session, project.id, of_class, verified=True)
    best = record or queries.find_best(session, project.id, of_class, verified=False)
    leading = [best.commit_sha] if best else []
    if start is not None:
        links, kept = tree_queries.descend(session, start, size.nodes), {start}
        shown = {link.sha for link in links}
        path = {one for sha in leading for one in tree_queries.list_path(session, sha, shown, links[0].depth)}
    else:
        sign = projects.contract_of(project).objective.sign
        wanted = tree_queries.list_best(session, project.id, of_class, sign, size.best)
        wanted += tree_queries.list_newest(session, project.id, size.newest)
        wanted += [project.root_sha, *leading]
        kept = set(wanted)
        links = tree_queries.climb(session, kept, 2 * size.nodes, MAX_CLIMBED)
        path = {*_trace(links, *leading), *([project.root_sha] if leading else [])}
    places = arrange(links, start or project.root_sha, kept, path, size.nodes)
    shas = [place.sha for place in places]
    rows = {row.sha: row for row in tree_queries.list_nodes(session, shas, of_class)}
    children = tree_queries.count_children(session, shas, MOST_CHILDREN)
    counts = count_shown(places)
    nodes = [
        TreeNode(
            rows[place.sha], place.parent, place.level, place.skipped, max(0, children[place.sha] - counts[number]),
            children[place.sha] == MOST_CHILDREN, place.sha in path,
        )
        for number, place in enumerate(places)
    ]  # fmt: skip
    return ProjectTree(nodes, best.commit_sha if best else None, record is not None)


def _trace(links: Sequence[TreeLink], sha: str | None = None) -> Iterator[str]:
    """A commit and its ancestors, the nearest first, as far as they are among the `links`."""
    above = {link.sha: link.parent_sha for link in links}
    while sha in above:
        yield sha
        sha = above[sha]


def count_shown(places: Sequence[_Place]) -> Mapping[int, int]:
    """The number of children that are shown of each place, those behind skipped commits included."""
    shown = dict.fromkeys(range(len(places)), 0)
    for place in places[1:]:
        shown[place.parent] += 1
    return shown


def arrange(
    links: Sequence[TreeLink], top: str, kept: Collection[str], path: Collection[str], most: int
) -> list[_Place]:
    """Places in preorder from `top` on, at most `most` where `kept` allows it. A commit whose parent was not read hangs
    on the top."""
    known = {link.sha: link for link in links}
    children: dict[str, list[str]] = {}
    for link in sorted(links, key=lambda one: (one.sha not in path, one.depth, one.sha)):
        if link.sha != top:
            above = link.parent_sha if link.parent_sha in known else top
            children.setdefault(above or top, []).append(link.sha)
    is_crowded = len(known) > most
    places: list[_Place] = []
    waiting = [(top, -1, 0)]
    while waiting:
        sha, parent, level = waiting.pop()
        while is_crowded and sha not in kept and sha != top and len(children.get(sha, ())) == 1:
            (sha,) = children[sha]
        depth = known[sha].depth
        skipped = depth - known[places[parent].sha].depth - 1 if parent >= 0 else 0
        places.append(_Place(sha, parent, level, skipped))
        number = len(places) - 1
        waiting += [(child, number, level + 1) for child in reversed(children.get(sha, ()))]
    return places
