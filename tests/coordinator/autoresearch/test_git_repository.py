"""Reading a repository that real git made."""

import re
import zlib
from pathlib import Path

import pytest

from coordinator.autoresearch.git_repository import NO_AUTHOR, NOT_HERE, RepositoryInvalidError, open_repository
from tests.support.git import Git, run_git


@pytest.fixture
def git(tmp_path: Path) -> Git:
    git = Git.init(tmp_path / "repository")
    git("checkout", "--quiet", "-b", "main")
    (git.folder / "train.py").write_text("DEPTH = 4\n")
    git("add", "--all")
    git("commit", "--quiet", "--message", "begin\n\nwith a body")
    return git


def test_reads_text_and_says_what_it_leaves_out(git: Git) -> None:
    (git.folder / "picture.png").write_bytes(b"\x89PNG\xff")
    (git.folder / "zeros.txt").write_bytes(b"a\0b")
    (git.folder / "link").symlink_to("train.py")
    (git.folder / "run.sh").write_text("true\n")
    (git.folder / "run.sh").chmod(0o755)
    git("add", "--all")
    git("commit", "--quiet", "--message", "more")
    with open_repository(git.folder, "main") as repository:
        texts, left_out = repository.read_files(git("rev-parse", "HEAD").strip())
        assert texts == {"run.sh": "true\n", "train.py": "DEPTH = 4\n"}
        assert set(left_out) == {"picture.png", "zeros.txt", "link"}
        assert repository.read_file("run.sh") == b"true\n" and repository.read_file("none") is None
        assert [repository.read_subject(sha) for sha in repository.list_branch()] == ["begin", "more"]


def test_short_hashes_name_commits_of_the_branch_first(git: Git) -> None:
    sha = git("rev-parse", "HEAD").strip()
    tree = git("rev-parse", "HEAD^{tree}").strip()
    with open_repository(git.folder, "main") as repository:
        assert repository.resolve(sha[:5]) == repository.resolve(sha) == sha
        assert repository.resolve(tree) is None, "not a commit"
        assert [repository.resolve(text) for text in (sha[:3], "baseline", "", "f" * 40)] == [None] * 4


def test_a_branch_of_a_bare_clone_and_packed_refs(git: Git, tmp_path: Path) -> None:
    run_git("clone", "--quiet", "--bare", str(git.folder), str(tmp_path / "bare.git"))
    run_git("-C", str(tmp_path / "bare.git"), "pack-refs", "--all")
    run_git("clone", "--quiet", str(git.folder), str(tmp_path / "clone"))
    run_git("-C", str(tmp_path / "clone"), "checkout", "--quiet", "--detach")
    run_git("-C", str(tmp_path / "clone"), "branch", "--quiet", "-D", "main")
    for folder in ("bare.git", "clone"):
        with open_repository(tmp_path / folder, "main") as repository:
            assert len(repository.list_branch()) == 1


def test_odd_authors_do_not_break_commits(git: Git) -> None:
    raw = git("cat-file", "commit", "HEAD").replace("ada <ada@swarm>", "ada")
    odd = git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=raw.encode()).strip()
    git("update-ref", "refs/heads/odd", odd)
    late = git(
        "hash-object", "-t", "commit", "-w", "--stdin", stdin=re.sub(r"(?<=> )\d+", "9" * 11, raw).encode()
    ).strip()
    with open_repository(git.folder, "odd") as repository:
        assert repository.read_words(late).authored_at == 0, "a time that cannot be"
        assert repository.read_words(odd).author == NO_AUTHOR
        assert repository.read_words(odd).message.startswith("begin\n\nwith a body")


def test_what_is_no_repository_is_said(git: Git, tmp_path: Path) -> None:
    with pytest.raises(RepositoryInvalidError, match="Clone it first"), open_repository(tmp_path, "main"):
        pass
    with pytest.raises(RepositoryInvalidError, match="It has: main"), open_repository(git.folder, "other"):
        pass
    (git.folder / ".git" / "config").write_text("[core")
    with pytest.raises(RepositoryInvalidError, match="git fsck"), open_repository(git.folder, "main"):
        pass


@pytest.mark.parametrize("damage", [b"", b"garbage", zlib.compress(b"commit 4\0odd\n")])
def test_damaged_objects_are_told_in_a_sentence(git: Git, damage: bytes) -> None:
    sha = git("rev-parse", "HEAD").strip()
    file = git.folder / ".git" / "objects" / sha[:2] / sha[2:]
    file.chmod(0o644)
    file.write_bytes(damage)
    with (
        pytest.raises(RepositoryInvalidError, match=r"git's own files .* cannot be read"),
        open_repository(git.folder, "main") as repository,
    ):
        repository.read_words(sha)


def test_partial_clones_and_large_file_pointers_are_named(git: Git, tmp_path: Path) -> None:
    (git.folder / "weights.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (git.folder / "results.tsv").symlink_to("train.py")
    git("add", "--all")
    git("commit", "--quiet", "--message", "weights")
    git("config", "uploadpack.allowFilter", "true")
    sha = git("rev-parse", "HEAD").strip()
    with open_repository(git.folder, "main") as repository:
        assert "Git LFS" in repository.read_files(sha)[1]["weights.bin"]
        assert repository.read_file("results.tsv") is None, "a link is no log"
    for kind in ("blob:none", "tree:0"):
        clone = tmp_path / kind[:4]
        run_git("clone", "--quiet", "--no-checkout", f"--filter={kind}", git.folder.as_uri(), str(clone))
    with open_repository(tmp_path / "blob", "main") as repository:
        assert repository.read_files(sha)[1]["train.py"] == NOT_HERE
    with (
        open_repository(tmp_path / "tree", "main") as repository,
        pytest.raises(RepositoryInvalidError, match="partial"),
    ):
        repository.identify_code(repository.list_branch()[0])
