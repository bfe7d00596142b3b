"""Shallow clones, and their later deepening."""

from pathlib import Path

import pytest

from tests.coordinator.git_http.conftest import Upstream
from tests.support.databases import ON_ONE_ENGINE
from tests.support.git import Git

pytestmark = ON_ONE_ENGINE  # test_walks asks both kinds


@pytest.fixture
def trunk(upstream: Upstream) -> list[str]:
    """Ten commits, the root first, on the branch `baseline`."""
    shas = [upstream.root_sha, *upstream.commit(upstream.root_sha, 9)]
    upstream.branch(baseline=shas[-1])
    return shas


@pytest.fixture
def shallow(upstream: Upstream, trunk: list[str], tmp_path: Path) -> Git:
    """A clone of the last commit alone."""
    return Git.clone(upstream.url, tmp_path / "shallow", "--depth", "1", "--config", "fetch.unpackLimit=10000")


def test_the_last_commit_alone(trunk: list[str], shallow: Git) -> None:
    shallow.check()
    assert shallow.list_commits() == [trunk[-1]]
    assert shallow.count_loose() <= 5, "one commit, its tree and three files"


def test_new_experiments_come_by_a_plain_fetch(upstream: Upstream, trunk: list[str], shallow: Git) -> None:
    before = shallow.count_loose()
    new = upstream.commit(trunk[-1], 3)
    upstream.branch(baseline=new[-1])
    shallow("fetch")
    shallow.check()
    assert shallow.list_commits() == [*reversed(new), trunk[-1]]
    assert shallow.count_loose() - before == 9


def test_a_head_that_left_the_line_below_the_clone(upstream: Upstream, trunk: list[str], shallow: Git) -> None:
    """The client lacks the common ancestor, so the new line comes down to the root."""
    sideways = upstream.commit(trunk[4], 2)
    upstream.branch(baseline=sideways[-1])
    shallow("fetch", "--force")
    shallow.check()
    assert shallow.list_commits("origin/baseline") == [*reversed(sideways), *reversed(trunk[:5])]
    assert shallow.list_commits("HEAD") == [trunk[-1]]


def test_fetch_at_depth_1_again(upstream: Upstream, trunk: list[str], shallow: Git) -> None:
    before = shallow.count_loose()
    new = upstream.commit(trunk[-1], 3)
    upstream.branch(baseline=new[-1])
    shallow("fetch", "--depth", "1")
    shallow.check()
    assert shallow.list_commits("origin/baseline") == [new[-1]]
    assert shallow.count_loose() - before == 3, "the files that did not change are there already"


def test_deepen(upstream: Upstream, trunk: list[str], shallow: Git) -> None:
    shallow("fetch", "--depth", "3")
    assert shallow.list_commits() == trunk[:-4:-1]
    shallow("fetch", "--deepen", "2")
    assert shallow.list_commits() == trunk[:-6:-1]
    shallow("fetch", "--depth", "50")
    assert shallow.list_commits() == trunk[::-1]
    assert shallow("rev-parse", "--is-shallow-repository").strip() == "false"
    shallow.check()


def test_unshallow_after_new_experiments(upstream: Upstream, trunk: list[str], shallow: Git) -> None:
    new = upstream.commit(trunk[-1], 2)
    upstream.branch(baseline=new[-1])
    upstream.branch(wider=upstream.commit(trunk[3])[0])
    shallow("fetch", "--unshallow")
    shallow.check()
    assert shallow.list_commits() == [*reversed(new), *reversed(trunk)]
    shallow("fetch", "origin", "wider")
    assert shallow("rev-parse", "--is-shallow-repository").strip() == "false"


def test_branches_of_different_depth(upstream: Upstream, trunk: list[str], tmp_path: Path) -> None:
    """One branch's head is inside the other's history: it is not cut there."""
    upstream.branch(older=trunk[7])
    git = Git.clone(upstream.url, tmp_path / "clone", "--depth", "3", "--no-single-branch")
    git.check()
    assert git.list_commits() == trunk[:4:-1]


def test_a_clone_of_a_shallow_sha_goes_on(upstream: Upstream, trunk: list[str], shallow: Git) -> None:
    """An agent gets one commit after the other, each alone."""
    for sha in upstream.commit(trunk[2], 3):
        shallow("fetch", "--depth", "1", "origin", sha)
        assert shallow.list_commits("FETCH_HEAD") == [sha]
    shallow.check()
