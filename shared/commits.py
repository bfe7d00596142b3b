"""Builds git objects from files, for worker and coordinator, so that both arrive at the same sha.

Every file is UTF-8 text with mode 100644; a commit has one parent (the root none), its committer is its author, and
its time zone is +0000.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha1
from typing import NamedTuple

from dulwich.errors import ObjectFormatException
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tree

FILE_MODE = 0o100644
FOLDER_MODE = 0o040000
MAX_PATH_DEPTH = 8


class CommitError(ValueError):
    """Files or a commit's words that git, or our rules, do not allow."""


class GitObject(NamedTuple):
    sha: str
    kind: str  # `blob`, `tree` or `commit`
    data: bytes  # without the header


@dataclass(frozen=True)
class CommitWords:
    author: str  # `Name <address>`
    authored_at: int  # seconds since the epoch
    message: str


@dataclass(frozen=True)
class ParsedCommit:
    tree_sha: str
    parent_sha: str | None
    words: CommitWords


def check_path(path: str) -> None:
    """Raise CommitError unless `path` is a plain relative path: no `..`, `.git`, backslash or control character."""
    parts = path.split("/")
    plain = all(part not in ("", ".", "..") and part.lower() != ".git" for part in parts)
    if not plain or "\\" in path or ":" in path or not path.isprintable() or len(parts) > MAX_PATH_DEPTH:
        raise CommitError(f"the path {path!r} is not allowed")


def build_blob(text: str) -> GitObject:
    return _pack(Blob.from_string(text.encode()))


def build_trees(entries: Mapping[str, str]) -> tuple[str, list[GitObject]]:
    """The root tree's sha and every tree, children before parents, of a snapshot: path -> blob sha.

    Raises CommitError for a path that is not allowed, or that is both a file and a folder.
    """
    for path in entries:
        check_path(path)
    return _build_folder(dict(entries))


def _build_folder(entries: Mapping[str, str]) -> tuple[str, list[GitObject]]:
    tree, objects = Tree(), list[GitObject]()
    folders: dict[str, dict[str, str]] = {}
    for path, sha in entries.items():
        name, _, rest = path.partition("/")
        if rest:
            folders.setdefault(name, {})[rest] = sha
        else:
            tree.add(name.encode(), FILE_MODE, ObjectID(sha.encode()))
    for name, inside in folders.items():
        if name in entries:
            raise CommitError(f"{name!r} is both a file and a folder")
        sha, below = _build_folder(inside)
        objects += below
        tree.add(name.encode(), FOLDER_MODE, ObjectID(sha.encode()))
    packed = _pack(tree)
    return packed.sha, [*objects, packed]


def build_commit(tree_sha: str, parent_sha: str | None, words: CommitWords) -> GitObject:
    """Raises CommitError for an author or a message that would break the commit's format."""
    if any(c in words.author for c in "\n\0") or "\0" in words.message:
        raise CommitError("the author or the message holds a character that a commit cannot hold")
    name, bracket, address = words.author.partition(" <")
    if not bracket or not address.endswith(">") or any(c in name + address[:-1] for c in "<>"):
        raise CommitError(f"the author must read `Name <address>`, not {words.author!r}")
    commit = Commit()
    commit.tree = ObjectID(tree_sha.encode())
    commit.parents = [ObjectID(parent_sha.encode())] if parent_sha else []
    commit.author = commit.committer = words.author.encode()
    commit.author_time = commit.commit_time = words.authored_at
    commit.author_timezone = commit.commit_timezone = 0
    commit.message = words.message.rstrip("\n").encode() + b"\n"
    return _pack(commit)


def parse_commit(data: bytes) -> ParsedCommit:
    """Raises CommitError if `data` is not a commit's content."""
    try:
        commit = Commit.from_string(data)
        commit.check()
    except ObjectFormatException as error:
        raise CommitError(f"not a commit: {error}") from error
    parent = commit.parents[0].decode() if commit.parents else None
    words = CommitWords(commit.author.decode(), commit.author_time, commit.message.decode())
    return ParsedCommit(commit.tree.decode(), parent, words)


def parse_tree(data: bytes) -> Iterator[tuple[str, bool, str]]:
    """Entries of a tree's content: name, whether it is a folder, sha."""
    for entry in Tree.from_string(data).iteritems():
        assert entry.path is not None and entry.mode is not None and entry.sha is not None
        yield entry.path.decode(), entry.mode == FOLDER_MODE, entry.sha.decode()


def _pack(obj: ShaFile) -> GitObject:
    kind, data = obj.type_name.decode(), obj.as_raw_string()
    return GitObject(name_object(kind, data), kind, data)


def name_object(kind: str, data: bytes) -> str:
    """Git's name for a content: the SHA-1 of a header and the content."""
    return sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
