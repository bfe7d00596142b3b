"""Walks over a project's commits, from some of them towards the root.

A commit has one parent and a known depth, so a walk that always takes the deepest commit next visits every commit
once, after all of its descendants. It need not remember visited commits, and it reads no further than it goes.
"""

from collections.abc import Collection, Iterable, Iterator, Set
from heapq import heappop, heappush
from typing import NamedTuple

from sqlalchemy.orm import Session

from coordinator.git_http.queries import CommitTrees, list_lineage

FIRST_BAND, LAST_BAND = 16, 1024
"""Number of depths that one query reads: few at first, because the usual fetch ends soon, and doubled each time."""


class MissingCommit(NamedTuple):
    """A commit to send. `base_tree_sha` is a similar tree that the client has or gets as well, None without one."""

    sha: str
    tree_sha: str
    base_tree_sha: str | None


class CommitQueue:
    """Commits that a walk has yet to visit; each is popped once, the deepest first."""

    def __init__(self, session: Session, commits: Iterable[CommitTrees]) -> None:
        self._session = session
        self._rows: dict[str, CommitTrees] = {}
        self._heap: list[tuple[int, str]] = []
        self._waiting: set[str] = set()
        self._band = FIRST_BAND
        for commit in commits:
            self._add(commit.sha, commit.depth)

    def add_parent(self, commit: CommitTrees) -> str:
        """Adds the commit's parent and returns its sha."""
        assert commit.parent_sha is not None
        self._add(commit.parent_sha, commit.depth - 1)
        return commit.parent_sha

    def pop(self) -> CommitTrees:
        """Removes and returns the deepest commit."""
        minus_depth, sha = heappop(self._heap)
        self._waiting.remove(sha)
        if sha not in self._rows:
            self._load(sha, floor=-minus_depth - self._band)
            self._band = min(2 * self._band, LAST_BAND)
        return self._rows.pop(sha)

    def _add(self, sha: str, depth: int) -> None:
        if sha not in self._waiting:
            self._waiting.add(sha)
            heappush(self._heap, (-depth, sha))

    def _load(self, sha: str, floor: int) -> None:
        near = [other for minus_depth, other in self._heap if -minus_depth >= floor and other not in self._rows]
        self._rows.update((row.sha, row) for row in list_lineage(self._session, [sha, *near], floor))


def walk_missing(
    session: Session, wants: Collection[CommitTrees], haves: Collection[CommitTrees], had_ends: Set[str], ends: Set[str]
) -> Iterator[MissingCommit]:
    """The commits that lead to `wants` and are not among `haves` and their ancestors.

    The client's history ends at `had_ends`, what is sent ends at `ends`, whatever their parents are. The parents of
    one of `ends` are not sent, so its whole tree is, as far as it differs from the first of `haves`.
    """
    wanted, held = {want.sha for want in wants}, {have.sha for have in haves}
    nearest_tree_sha = next((have.tree_sha for have in haves), None)
    frontier = CommitQueue(session, [*wants, *haves])
    while wanted:
        commit = frontier.pop()
        is_held, is_wanted = commit.sha in held, commit.sha in wanted
        held.discard(commit.sha)
        wanted.discard(commit.sha)
        if is_wanted and not is_held:
            is_end = commit.sha in ends or commit.parent_sha is None
            yield MissingCommit(commit.sha, commit.tree_sha, nearest_tree_sha if is_end else commit.parent_tree_sha)
            if not is_end:
                wanted.add(frontier.add_parent(commit))
        if is_held and commit.parent_sha is not None and commit.sha not in had_ends:
            held.add(frontier.add_parent(commit))


def find_ends(
    session: Session, starts: Collection[CommitTrees], count: int, shallows: Set[str]
) -> tuple[set[str], set[str]]:
    """The ends of a history of `count` commits from each of `starts`, and those of `shallows` that it goes beyond."""
    left = {start.sha: count for start in starts}  # commit -> how many may be sent from there, itself included
    ends: set[str] = set()
    inside: set[str] = set()
    frontier = CommitQueue(session, starts)
    while left:
        commit = frontier.pop()
        commits_left = left.pop(commit.sha)
        if commit.parent_sha is None or commits_left > 1:
            inside |= shallows & {commit.sha}
        else:
            ends.add(commit.sha)
        if commit.parent_sha is not None and commits_left > 1:
            parent_sha = frontier.add_parent(commit)
            left[parent_sha] = max(left.get(parent_sha, 0), commits_left - 1)
    return ends, inside
