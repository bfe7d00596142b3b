"""Builds commits from files, stores them and reads them back.

Building is slow and only reads, so it happens before the write transaction, in which `store_commit` then adds rows.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from io import StringIO

from coordinator.db.engine import Conn
from coordinator.http.errors import SwarmError, must_find
from coordinator.lineage import objects
from coordinator.lineage.commits import CommitRow, add_commit, find_commit, get_commit
from coordinator.lineage.objects import ObjectRow
from shared.commits import CommitError, CommitWords, GitObject, build_blob, build_commit, build_trees, check_path
from shared.contract import Files
from shared.projects import CommitFiles
from shared.protocol import now

NO_NEWLINE = "\\ No newline at end of file"


class CommitInvalidError(SwarmError, status=422, title="The commit cannot be built"):
    pass


class CodeLostError(SwarmError, status=410, title="The code of this commit is lost"):
    """Of an imported experiment only the numbers are known; its parent's code is not its own."""


class CommitMismatchError(
    SwarmError, status=422, title="The commit's sha does not fit its files, author, date and message"
):
    pass


class PathNotAllowedError(SwarmError, status=422, title="A path is not allowed"):
    pass


class FileNotEditableError(SwarmError, status=422, title="The contract does not let experiments change this file"):
    pass


class FileTooLargeError(SwarmError, status=413, title="A file is larger than the contract allows"):
    pass


@dataclass(frozen=True)
class BuiltCommit:
    """A commit that is not stored yet, and those of its objects that its parent does not have."""

    sha: str
    parent_sha: str | None
    tree_sha: str
    depth: int
    objects: list[ObjectRow]


def check_files(files: Mapping[str, str], allowed: Files) -> None:
    """Raise a SwarmError unless each file has an allowed path, is editable and not too large."""
    for path, text in files.items():
        try:
            check_path(path)
        except CommitError as error:
            raise PathNotAllowedError(f"{error}. Paths are relative, with / between folders and no `..`.") from error
        if path not in allowed.editable:
            raise FileNotEditableError(f"{path} is not editable; the editable files are {', '.join(allowed.editable)}.")
        size = len(text.encode())
        if size > allowed.max_bytes:
            raise FileTooLargeError(f"{path} has {size} bytes; the contract allows {allowed.max_bytes}.")


def build_root(files: Mapping[str, str], words: CommitWords) -> BuiltCommit:
    """The first commit of a project, from all of its files. Raises CommitInvalidError."""
    tree_sha, below = build_snapshot({}, files)
    commit = _build_commit(tree_sha, None, words)
    return BuiltCommit(commit.sha, None, tree_sha, 0, [objects.encode_one(obj) for obj in (*below, commit)])


def build_child(session: Conn, parent: CommitRow, files: Mapping[str, str], words: CommitWords) -> BuiltCommit:
    """A commit on `parent` in which `files` are replaced. Raises CommitInvalidError."""
    before = objects.read_snapshot(session, parent.tree_sha)
    tree_sha, below = build_snapshot(before.files, files)
    commit = _build_commit(tree_sha, parent.sha, words)
    after = objects.read_snapshot(session, tree_sha, known=before.trees | {obj.sha: obj for obj in below})
    known = before.trees.keys() | before.files.values()  # what others made meanwhile is left alone when it is stored
    added = [obj for obj in (*below, commit) if obj.sha not in known]
    encoded = objects.encode(session, added, objects.list_predecessors(after, before))
    return BuiltCommit(commit.sha, parent.sha, tree_sha, parent.depth + 1, encoded)


def plan_child(
    session: Conn, parent_sha: str, files: Mapping[str, str], paths: Collection[str]
) -> tuple[str, dict[str, str]]:
    """The tree of a commit on `parent_sha` with `files` replaced, and the parent's files of `paths`. Raises
    CommitInvalidError."""
    before = objects.list_tree(session, get_commit(session, parent_sha).tree_sha)
    tree_sha, _ = build_snapshot(before, files)
    return tree_sha, objects.read_texts(session, {path: before[path] for path in paths if path in before})


def build_snapshot(base: Mapping[str, str], files: Mapping[str, str]) -> tuple[str, list[GitObject]]:
    """The tree of `base` (path -> blob sha) with `files` (path -> text) replaced: its sha, and the new objects.

    Raises CommitInvalidError.
    """
    blobs = {path: build_blob(text) for path, text in files.items()}
    try:
        tree_sha, trees = build_trees({**base, **{path: blob.sha for path, blob in blobs.items()}})
    except CommitError as error:
        raise CommitInvalidError(str(error)) from error
    return tree_sha, [*blobs.values(), *trees]


def _build_commit(tree_sha: str, parent_sha: str | None, words: CommitWords) -> GitObject:
    try:
        return build_commit(tree_sha, parent_sha, words)
    except CommitError as error:
        raise CommitInvalidError(str(error)) from error


def store_commit(
    session: Conn, project_id: int, built: BuiltCommit, *, steps: int = 1, has_code: bool = True
) -> CommitRow:
    """Adds a built commit's rows (`steps` and `has_code`: see `Commit`)."""
    objects.add_objects(session, built.objects)
    commit = CommitRow(built.sha, project_id, built.parent_sha, built.tree_sha, built.depth, has_code, steps)
    add_commit(session, commit._asdict() | {"created_at": now()})
    return commit


def read_files(session: Conn, project_id: int, sha: str, paths: Collection[str] | None = None) -> dict[str, str]:
    """Files of a commit, path -> text: all of them, or those of `paths` that it has. Raises NotFoundError."""
    entries = objects.list_tree(session, _get_commit_of(session, project_id, sha).tree_sha)
    wanted = entries if paths is None else {path: entries[path] for path in paths if path in entries}
    return objects.read_texts(session, wanted)


def view_commit(session: Conn, project_id: int, sha: str, paths: Collection[str] | None = None) -> CommitFiles:
    """A commit with all of its files, or those of `paths` that it has. Raises NotFoundError, CodeLostError."""
    commit = _get_commit_of(session, project_id, sha)
    if not commit.has_code:
        raise CodeLostError(explain_lost(sha))
    return CommitFiles(sha=sha, parent_sha=commit.parent_sha, files=read_files(session, project_id, sha, paths))


def explain_lost(sha: str) -> str:
    """Why there is nothing to check out, compare or run, as a sentence."""
    return f"The code of {sha[:12]} is lost: its session wrote down what it measured, and no commit holds the change."


def _get_commit_of(session: Conn, project_id: int, sha: str) -> CommitRow:
    return must_find(find_commit(session, project_id, sha), f"This project has no commit {sha}.")


def diff_files(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """A unified diff as `git diff` would head it; empty where nothing changed. Its lines end with a line feed alone, as
    git's and Python's do: by others a change of what ends a comment would be none."""
    lines: list[str] = []
    for path in sorted({*before, *after}):
        old, new = (list(StringIO(files.get(path, ""), newline="\n")) for files in (before, after))
        old_name = f"a/{path}" if path in before else "/dev/null"
        new_name = f"b/{path}" if path in after else "/dev/null"
        if before.get(path) != after.get(path):
            lines += unified_diff(old, new, old_name, new_name)
    return "".join(line if line.endswith("\n") else f"{line}\n{NO_NEWLINE}\n" for line in lines)
