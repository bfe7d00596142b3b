"""The worker's git repository of a project: bare, written with shared/commits.py, readable with plain git.

It has the files of all commits that were fetched, and all commits made here. A commit's sha is computed before its run;
the coordinator computes the same sha from the same files, author, date and message.

    refs/swarm/<sha>     a commit made here
    refs/fetched/<sha>   the tree of a commit made elsewhere, of which only the files are known here

The refs keep `git gc` from removing anything. A commit whose parent was made elsewhere stands in git's `shallow`
file, so that `git log` and `git fsck` know that history ends there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import RLock

from dulwich.errors import NotGitRepository
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo

from shared.commits import (
    CommitWords,
    GitObject,
    build_blob,
    build_commit,
    build_trees,
    check_path,
    parse_commit,
    parse_tree,
)
from shared.projects import CommitFiles

_KINDS = {kind.type_name.decode(): kind.type_num for kind in (Blob, Tree, Commit)}


class CommitUnknown(Exception):
    """This repository does not have the files of a commit."""


class Repository:
    """One project's commits, for several threads of one process (worker/loop/lock.py). Raises OSError of the disk."""

    def __init__(self, path: Path) -> None:
        self._lock = RLock()
        path.mkdir(parents=True, exist_ok=True)
        for leftover in path.rglob("*.lock"):  # of a process that was killed while it wrote
            leftover.unlink()
        try:
            self._repo = Repo(str(path))
        except NotGitRepository:
            self._repo = Repo.init_bare(str(path))

    def close(self) -> None:
        self._repo.close()

    def store_files(self, commit: CommitFiles) -> None:
        """Store a fetched commit's files. Raises CommitError for a path that is not allowed."""
        with self._lock:
            tree_sha = self._store_files(commit.files)
            self._repo.refs[_fetched(commit.sha)] = _object_id(tree_sha)

    def read_files(self, sha: str) -> dict[str, str]:
        """All files of a commit. Raises CommitUnknown."""
        files: dict[str, str] = {}
        with self._lock:
            self._read_folder(self._get_tree(sha), "", files)
        return files

    def commit(self, parent_sha: str, changes: Mapping[str, str], words: CommitWords) -> str:
        """Commit changed files on a known parent; return the new commit's sha. Raises CommitUnknown, CommitError."""
        with self._lock:
            tree_sha = self._store_files({**self.read_files(parent_sha), **changes})
            commit = build_commit(tree_sha, parent_sha, words)
            self._store(commit)
            if _made_here(parent_sha) not in self._repo.refs:
                self._repo.update_shallow({_object_id(commit.sha)}, None)
            self._repo.refs[_made_here(commit.sha)] = _object_id(commit.sha)
            return commit.sha

    def _get_tree(self, sha: str) -> str:
        if _made_here(sha) in self._repo.refs:
            return parse_commit(self._repo[_object_id(sha)].as_raw_string()).tree_sha
        try:
            return self._repo.refs[_fetched(sha)].decode()
        except KeyError as error:
            raise CommitUnknown(f"the files of commit {sha} are not here") from error

    def _read_folder(self, tree_sha: str, prefix: str, files: dict[str, str]) -> None:
        for name, is_folder, sha in parse_tree(self._repo[_object_id(tree_sha)].as_raw_string()):
            if is_folder:
                self._read_folder(sha, f"{prefix}{name}/", files)
            else:
                files[prefix + name] = self._repo[_object_id(sha)].as_raw_string().decode()

    def _store_files(self, files: Mapping[str, str]) -> str:
        """Store blobs and trees; return the root tree's sha."""
        blobs = {path: build_blob(text) for path, text in files.items()}
        root_sha, trees = build_trees({path: blob.sha for path, blob in blobs.items()})
        for obj in (*blobs.values(), *trees):
            self._store(obj)
        return root_sha

    def _store(self, obj: GitObject) -> None:
        self._repo.object_store.add_object(ShaFile.from_raw_string(_KINDS[obj.kind], obj.data))


def _made_here(sha: str) -> Ref:
    return Ref(f"refs/swarm/{sha}".encode())


def _fetched(sha: str) -> Ref:
    return Ref(f"refs/fetched/{sha}".encode())


def _object_id(sha: str) -> ObjectID:
    return ObjectID(sha.encode())


def write_worktree(folder: Path, files: Mapping[str, str]) -> Path:
    """Write `files` (path -> text) below `folder`, which must not exist yet, and return it.

    Modes are set whatever the umask: a sandboxed process may have another uid. Raises CommitError for a path that
    is not allowed.
    """
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    for path, text in files.items():
        check_path(path)
        target = folder / path
        for parent in reversed(target.relative_to(folder).parents[:-1]):
            (folder / parent).mkdir(exist_ok=True)
            (folder / parent).chmod(0o755)
        target.write_text(text, encoding="utf-8", newline="")
        target.chmod(0o644)
    return folder


def start_history(folder: Path, paths: Sequence[str]) -> None:
    """Make a folder a git repository with these files in its only commit, for tools that need one."""
    with Repo.init(str(folder)) as repository:
        config = repository.get_config()
        config.set((b"user",), b"name", b"volunteer")
        config.set((b"user",), b"email", b"volunteer@worker.invalid")
        config.write_to_path()
        worktree = repository.get_worktree()
        worktree.stage(list(paths))
        worktree.commit(message=b"The parent commit")
