"""Git objects, against the real git."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.commits import (
    CommitError,
    CommitWords,
    build_blob,
    build_commit,
    build_trees,
    check_path,
    parse_commit,
    parse_tree,
)

FILES = {
    "train.py": "x = 1\n",
    "harness/trainer.py": "é\n",
    "harness/deep/er.py": "",
    "train-a.py": "y",
    "train/x": "z",
}


def test_git_builds_the_same_commit(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        environment = {
            "GIT_AUTHOR_DATE": "1790000000 +0000", "GIT_COMMITTER_DATE": "1790000000 +0000", "HOME": str(tmp_path),
            "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@swarm", "GIT_COMMITTER_NAME": "Ada",
            "GIT_COMMITTER_EMAIL": "ada@swarm", "PATH": "/usr/bin:/bin",
        }  # fmt: skip
        done = subprocess.run(["git", *arguments], cwd=tmp_path, env=environment, check=True, capture_output=True)
        return done.stdout.decode().strip()

    git("init", "-q")
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    git("add", "-A")
    git("commit", "-q", "-m", "Try a thing\n\nBecause.")
    tree_sha, _ = build_trees({path: build_blob(text).sha for path, text in FILES.items()})
    words = CommitWords("Ada <ada@swarm>", 1_790_000_000, "Try a thing\n\nBecause.")
    assert build_commit(tree_sha, None, words).sha == git("rev-parse", "HEAD")
    child = build_commit(tree_sha, git("rev-parse", "HEAD"), words)
    git("commit", "-q", "--allow-empty", "-m", "Try a thing\n\nBecause.")
    assert child.sha == git("rev-parse", "HEAD")


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/", "../a", "a/../b", "./a", "a//b", ".git/config", "a/.GIT/x", "a\\b", "a\nb", "a\0b", "C:x",
     "/".join("abcdefghij")],
)  # fmt: skip
def test_paths_that_are_not_allowed(path: str) -> None:
    with pytest.raises(CommitError):
        check_path(path)


@pytest.mark.parametrize("author", ["Ada", "Ada <a", "Ada <a>\nparent x", "A <b> <c>", "Ada <a\0>"])
def test_authors_that_would_forge_a_header(author: str) -> None:
    with pytest.raises(CommitError):
        build_commit("0" * 40, None, CommitWords(author, 0, "m"))


def test_a_name_cannot_be_file_and_folder() -> None:
    with pytest.raises(CommitError, match="both"):
        build_trees({"a": "0" * 40, "a/b": "0" * 40})


names = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=4)


@given(st.dictionaries(st.lists(names, min_size=1, max_size=3).map("/".join), st.text(max_size=20), max_size=8))
def test_trees_hold_what_went_in(files: dict[str, str]) -> None:
    blobs = {path: build_blob(text).sha for path, text in files.items()}
    try:
        root, trees = build_trees(blobs)
    except CommitError:
        return
    by_sha = {tree.sha: tree for tree in trees}

    def walk(sha: str, prefix: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, is_folder, child in parse_tree(by_sha[sha].data):
            found |= walk(child, f"{prefix}{name}/") if is_folder else {prefix + name: child}
        return found

    assert walk(root, "") == blobs


def test_a_commit_reads_back() -> None:
    words = CommitWords("Zoë <z@swarm>", 5, "Größer\n")
    parsed = parse_commit(build_commit("1" * 40, "2" * 40, words).data)
    assert (parsed.tree_sha, parsed.parent_sha, parsed.words) == ("1" * 40, "2" * 40, words)
    with pytest.raises(CommitError):
        parse_commit(b"not a commit")
