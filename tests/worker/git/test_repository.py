"""worker/git/repository.py, read back with plain git."""

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shared.commits import CommitError, CommitWords
from shared.projects import CommitFiles
from tests.support.messages import AUTHOR, make_commit
from tests.worker.agents.tasks import sha_of
from worker.git.repository import CommitUnknown, Repository, write_worktree

FILES = {"train.py": "LEARNING_RATE = 0.003\n", "harness/a/b.py": "x = 'é'\n", "swarm.toml": "[project]\n"}
ROOT = sha_of("root")


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with closing(Repository(tmp_path / "tiny.git")) as repository:
        repository.store_files(CommitFiles(sha=ROOT, parent_sha=None, files=FILES))
        yield repository


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "safe.directory=*", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def words(message: str = "Try a larger learning rate\n") -> CommitWords:
    return CommitWords(author=AUTHOR, authored_at=1_790_000_000, message=message)


def test_a_commit_has_the_sha_that_the_other_side_computes(repository: Repository) -> None:
    changes = {"train.py": "LEARNING_RATE = 0.004\n"}
    assert repository.commit(ROOT, changes, words()) == make_commit(ROOT, FILES, changes).sha


def test_files_come_back_as_they_were(repository: Repository) -> None:
    child = repository.commit(ROOT, {"train.py": "x = 1\n"}, words())
    assert repository.read_files(ROOT) == FILES
    assert repository.read_files(child) == {**FILES, "train.py": "x = 1\n"}
    with pytest.raises(CommitUnknown):
        repository.read_files(sha_of("unknown"))
    with pytest.raises(CommitUnknown):
        repository.commit(sha_of("unknown"), {"train.py": ""}, words())


def test_git_reads_it_and_its_gc_removes_nothing(repository: Repository, tmp_path: Path) -> None:
    child = repository.commit(ROOT, {"train.py": "x = 1\n"}, words("One\n"))
    grandchild = repository.commit(child, {"train.py": "x = 2\n"}, words("Two\n"))
    repository.close()
    folder = tmp_path / "tiny.git"
    git(folder, "fsck", "--strict")
    git(folder, "gc", "--prune=now", "--quiet")
    assert git(folder, "log", "--format=%s", grandchild).split() == ["Two", "One"]
    assert git(folder, "show", f"{grandchild}:train.py") == "x = 2\n"
    with closing(Repository(folder)) as again:
        assert again.read_files(child)["train.py"] == "x = 1\n"
        assert again.read_files(ROOT) == FILES
        assert again.commit(child, {"train.py": "x = 2\n"}, words("Two\n")) == grandchild


def test_a_killed_process_leaves_no_lock_behind(repository: Repository, tmp_path: Path) -> None:
    child = repository.commit(ROOT, {"train.py": "x = 1\n"}, words())
    repository.close()
    locks = [tmp_path / "tiny.git" / "refs" / "swarm" / f"{child}.lock", tmp_path / "tiny.git" / "shallow.lock"]
    for lock in locks:
        lock.touch()
    with closing(Repository(tmp_path / "tiny.git")) as again:
        assert again.commit(ROOT, {"train.py": "x = 1\n"}, words()) == child
    assert not any(lock.exists() for lock in locks)


def test_a_path_out_of_the_tree_is_refused(repository: Repository) -> None:
    with pytest.raises(CommitError, match="not allowed"):
        repository.commit(ROOT, {"../evil.py": ""}, words())


def test_a_work_tree_is_readable_by_everybody_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        tree = write_worktree(tmp_path / "tree", {"train.py": "A = 1\r\n", "harness/deep/er.py": "é"})
    finally:
        os.umask(before)
    assert (tree / "train.py").read_bytes() == b"A = 1\r\n"
    assert (tree / "harness/deep/er.py").read_text() == "é"
    for path in (tree, *tree.rglob("*")):
        wanted = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", ".git/hooks/post-commit", "a//b", ""])
def test_a_work_tree_stays_inside(tmp_path: Path, path: str) -> None:
    with pytest.raises(CommitError):
        write_worktree(tmp_path / "tree", {path: "x"})
    assert [p.name for p in tmp_path.rglob("*")] == ["tree"]
