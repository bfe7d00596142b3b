"""Walks agree with a plain computation over sets, on random histories."""

from collections.abc import Iterator
from random import Random

import pytest
from sqlalchemy.orm import Session

from coordinator.db.database import Database
from coordinator.git_http import queries
from coordinator.git_http.queries import CommitTrees
from coordinator.git_http.walk import FIRST_BAND, CommitQueue, find_ends, walk_missing
from coordinator.models import Commit, Project
from shared.protocol import now

COMMITS, CASES = 150, 60


class Tree:
    """A random history, with some long lines in it: longer than what is read at once."""

    def __init__(self, session: Session, random: Random) -> None:
        self.parents: dict[str, str | None] = {}
        self.rows: dict[str, CommitTrees] = {}
        fields = {"title": "", "question": "", "contract": "", "contract_version": 1, "root_sha": ""}
        project = Project(name=f"tree-{random.random()}", created_at=now(), **fields)
        session.add(project)
        session.flush()
        for _ in range(COMMITS):
            sha = f"{random.getrandbits(160):040x}"
            near = [*self.rows.values()][-random.choice((1, 1, 1, 1, 4, COMMITS)) :]
            parent = random.choice(near) if near else None
            depth = parent.depth + 1 if parent else 0
            self.parents[sha] = parent.sha if parent else None
            self.rows[sha] = CommitTrees(sha, self.parents[sha], sha[::-1], parent.tree_sha if parent else None, depth)
            session.add(Commit(sha=sha, project_id=project.id, parent_sha=self.parents[sha], tree_sha=sha[::-1],
                               depth=depth, created_at=now()))  # fmt: skip
            session.flush()
        assert queries.find_commits(session, project.id, self.rows) == self.rows

    def follow(self, sha: str, ends: set[str]) -> Iterator[str]:
        """The commit and its ancestors, down to the first of `ends`."""
        at: str | None = sha
        while at is not None:
            yield at
            at = None if at in ends else self.parents[at]

    def reach(self, commits: list[CommitTrees], ends: set[str]) -> set[str]:
        return {sha for commit in commits for sha in self.follow(commit.sha, ends)}


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    """A transaction that is rolled back."""
    database = Database(database_url)
    with Session(database.engine) as session:
        yield session
    database.close()


def pick(random: Random, rows: dict[str, CommitTrees], most: int, least: int = 0) -> list[CommitTrees]:
    return random.sample([*rows.values()], random.randint(least, most))


def test_missing_commits(session: Session) -> None:
    random = Random(7)
    tree = Tree(session, random)
    for _ in range(CASES):
        wants, haves = pick(random, tree.rows, 4, least=1), pick(random, tree.rows, 5)
        had_ends = set(random.sample(sorted(tree.reach(haves, set())), random.randint(0, 2) if haves else 0))
        ends = had_ends | {row.sha for row in pick(random, tree.rows, 2)}
        missing = list(walk_missing(session, wants, haves, had_ends, ends))
        expected = tree.reach(wants, ends) - tree.reach(haves, had_ends)
        assert sorted(commit.sha for commit in missing) == sorted(expected)
        for commit in missing:
            row = tree.rows[commit.sha]
            is_end = row.sha in ends or row.parent_sha is None
            nearest = haves[0].tree_sha if haves else None
            assert commit == (row.sha, row.tree_sha, nearest if is_end else row.parent_tree_sha)


def test_ends_of_a_shallow_history(session: Session) -> None:
    random = Random(8)
    tree = Tree(session, random)
    for _ in range(CASES):
        starts, count = pick(random, tree.rows, 5, least=1), random.choice((1, 2, 3, 10, 60, COMMITS))
        shallows = {row.sha for row in pick(random, tree.rows, 10)}
        distances: dict[str, int] = {}
        for start in starts:
            for distance, sha in enumerate(tree.follow(start.sha, set())):
                distances[sha] = min(distance, distances.get(sha, distance))
        ends = {sha for sha, distance in distances.items() if distance == count - 1 and tree.parents[sha]}
        inside = shallows & {sha for sha, distance in distances.items() if distance < count} - ends
        assert find_ends(session, starts, count, shallows) == (ends, inside)


def test_a_walk_reads_a_few_depths_at_a_time(session: Session) -> None:
    tree = Tree(session, Random(9))
    deepest = max(tree.rows.values(), key=lambda row: row.depth)
    lineage = [tree.rows[sha] for sha in tree.follow(deepest.sha, set())]
    assert len(lineage) > 2 * FIRST_BAND
    band = list(queries.list_lineage(session, [deepest.sha], deepest.depth - FIRST_BAND))
    assert sorted(band, reverse=True, key=lambda row: row.depth) == lineage[: FIRST_BAND + 1]
    frontier = CommitQueue(session, [deepest])
    assert [frontier.pop(), frontier.add_parent(deepest), frontier.pop()] == [deepest, lineage[1].sha, lineage[1]]
