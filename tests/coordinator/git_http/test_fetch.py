"""The real git client against a real server."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.coordinator.git_http.conftest import Upstream
from tests.support.git import Git, GitFailed, run_git

CLIENTS, FETCHES = 4, 50


def test_clone(upstream: Upstream, tmp_path: Path) -> None:
    trunk = upstream.commit(upstream.root_sha, 3)
    failed = upstream.commit(trunk[0])
    upstream.branch(baseline=trunk[-1])
    upstream.branch(wider=trunk[1])
    git = Git.clone(upstream.url, tmp_path / "clone")
    git.check()
    assert git.list_commits() == [*reversed(trunk), upstream.root_sha]
    assert git("symbolic-ref", "HEAD").strip() == "refs/heads/baseline"
    assert git("rev-parse", "origin/wider").strip() == trunk[1]
    assert git("log", "-1", "--format=%an %s").strip() == "ada's worker Experiment 3"
    assert git("diff", "--stat", "HEAD~1", "HEAD").count("train.py") == 1
    assert failed[0] not in git("cat-file", "--batch-check", "--batch-all-objects")


def test_the_remote_shows_branches_only(upstream: Upstream) -> None:
    upstream.branch(wider=upstream.commit(upstream.root_sha)[0])
    refs = [line.split("\t")[1] for line in run_git("ls-remote", upstream.url).splitlines()]
    assert refs == ["HEAD", "refs/heads/baseline", "refs/heads/wider"]


def test_a_fetch_brings_new_objects_only(upstream: Upstream, tmp_path: Path) -> None:
    trunk = upstream.commit(upstream.root_sha, 40)
    upstream.branch(baseline=trunk[-1])
    git = Git.clone(upstream.url, tmp_path / "clone", "--config", "fetch.unpackLimit=10000")
    before = git.count_loose()
    new = upstream.commit(trunk[-1], 2)
    upstream.branch(baseline=new[-1])
    git("fetch")
    assert git.count_loose() - before == 6, "two commits with their trees and files"
    sideways = upstream.commit(trunk[20], 2)
    upstream.branch(baseline=sideways[-1])
    git("fetch", "--force")
    assert git.count_loose() - before == 12, "the head left its line 22 commits ago"
    git.check()


def test_a_client_with_many_branches(upstream: Upstream, tmp_path: Path) -> None:
    """More tips than fit into the first round, and commits of the client's own among them."""
    trunk = upstream.commit(upstream.root_sha, 60)
    upstream.branch(**{f"b{number}": upstream.commit(trunk[number])[0] for number in range(40)})
    git = Git.clone(upstream.url, tmp_path / "clone", "--config", "fetch.unpackLimit=10000")
    git("checkout", "--quiet", "-b", "mine", "origin/b7")
    for number in range(20):
        git("commit", "--quiet", "--allow-empty", "-m", f"my own {number}")
    before = git.count_loose()
    upstream.branch(deep=upstream.commit(trunk[-1])[0])
    git("fetch")
    assert git.count_loose() - before == 3 * 21, "from where the trunk left the last branch"
    git.check()


def test_any_commit_can_be_fetched(upstream: Upstream, tmp_path: Path) -> None:
    trunk = upstream.commit(upstream.root_sha, 3)
    failed = upstream.commit(trunk[1], 2)
    git = Git.clone(upstream.url, tmp_path / "clone")
    git("fetch", "origin", failed[0])
    assert git("rev-parse", "FETCH_HEAD").strip() == failed[0]
    assert git.list_commits("FETCH_HEAD") == [failed[0], trunk[1], trunk[0], upstream.root_sha]
    alone = Git.init(tmp_path / "alone")
    alone("fetch", "--depth", "1", upstream.url, failed[1])
    assert alone.list_commits("FETCH_HEAD") == [failed[1]]
    assert "# experiment 5" in alone("show", "FETCH_HEAD:train.py")


def test_folders_and_shared_files(upstream: Upstream, tmp_path: Path) -> None:
    """Trees below trees, and one content at two places."""
    first = upstream.commit(upstream.root_sha, 2, path="model/layers/mlp.py")[-1]
    second = upstream.commit(first, 2, path="model/attention.py")[-1]
    upstream.branch(baseline=second)
    git = Git.clone(upstream.url, tmp_path / "clone")
    third = upstream.commit(second, 2, path="model/layers/mlp.py")[-1]
    upstream.branch(baseline=third)
    git("pull", "--quiet")
    git.check()
    assert git("ls-files").split() == [
        "model/attention.py", "model/layers/mlp.py", "program.md", "swarm.toml", "train.py",
    ]  # fmt: skip


def test_four_clients_get_the_same_parent_at_once(upstream: Upstream, tmp_path: Path) -> None:
    """Several agents fetch one commit at the same moment, again and again."""
    parent = upstream.commit(upstream.root_sha, 5)[2]

    def fetch(number: int) -> str:
        git = Git.init(tmp_path / str(number))
        git("fetch", "--quiet", "--depth", "1", upstream.url, parent)
        return git("rev-parse", "FETCH_HEAD").strip()

    with ThreadPoolExecutor(CLIENTS) as clients:
        assert list(clients.map(fetch, range(FETCHES))) == [parent] * FETCHES


def test_commits_that_are_not_here_are_refused(upstream: Upstream, tmp_path: Path) -> None:
    other = upstream.add_project("other")
    git = Git.init(tmp_path / "repo")
    with pytest.raises(GitFailed, match=f"not our ref {other.root_sha}: this project has no such commit"):
        git("fetch", upstream.url, other.root_sha)
    with pytest.raises(GitFailed, match="not our ref " + "1" * 40):
        git("fetch", upstream.url, "1" * 40)
    assert git.count_loose() == 0
    git("fetch", other.url, other.root_sha)


def test_a_project_that_is_not_here(upstream: Upstream, tmp_path: Path) -> None:
    with pytest.raises(GitFailed, match="not found"):
        Git.clone(upstream.url.replace("tiny", "huge"), tmp_path / "clone")


def test_a_push_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    git = Git.clone(upstream.url, tmp_path / "clone")
    git("commit", "--quiet", "--allow-empty", "-m", "mine")
    with pytest.raises(GitFailed, match="this remote is for reading only"):
        git("push", "origin", "HEAD:refs/heads/mine")


def test_a_clone_of_a_part_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    """Git asks for what is advertised only: it warns about the filter and takes everything."""
    git = Git.clone(upstream.url, tmp_path / "clone", "--filter=blob:none")
    git.check()
    with pytest.raises(GitFailed, match="shallow-since"):
        Git.clone(upstream.url, tmp_path / "recent", "--shallow-since=2020-01-01")
