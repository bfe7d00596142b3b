"""A commit's files on disk."""

import os
import stat
from pathlib import Path

import pytest

from shared.commits import CommitError
from worker.git.worktree import write_worktree


def test_is_readable_by_everybody_whatever_the_umask(tmp_path: Path) -> None:
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
def test_stays_inside(tmp_path: Path, path: str) -> None:
    with pytest.raises(CommitError):
        write_worktree(tmp_path / "tree", {path: "x"})
    assert [p.name for p in tmp_path.rglob("*")] == ["tree"]
