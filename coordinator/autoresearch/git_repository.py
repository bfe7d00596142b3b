"""Reads the git repository that an imported project's commits come from, on this machine's disk."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha1
from pathlib import Path

from dulwich.errors import ChecksumMismatch, FileFormatException, NotGitRepository
from dulwich.objects import Blob, Commit, ObjectID, TreeEntry
from dulwich.repo import Repo, UnsupportedExtension, UnsupportedVersion

from coordinator.http.errors import SwarmError
from shared.commits import CommitError, CommitWords, check_path
from shared.protocol import LATEST
from shared.seeds import MAX_FILE_BYTES, MAX_FILES

MIN_PREFIX = 4  # as git: a shorter hash names nothing
REGULAR = frozenset({0o100644, 0o100755, 0o100664})
REF_FORMATS = ("refs/heads/{}", "refs/remotes/origin/{}", "refs/tags/{}", "{}")
NOT_HERE = "not in this clone"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
NO_AUTHOR = "unknown <unknown@localhost>"
WRITTEN = (".log", ".out", ".err", ".tsv", ".csv", ".jsonl", ".ndjson", ".svg", ".ipynb", ".lock", ".diff", ".patch")
"""Ends of names of what runs write, and people do not."""

NO_CODE = tuple(end.encode() for end in (*WRITTEN, ".md", ".txt", ".png", ".jpg", ".gif", ".pdf", ".html"))
DAMAGED = (
    FileFormatException, ChecksumMismatch, UnsupportedVersion, UnsupportedExtension, zlib.error, struct.error, OSError,
    AssertionError, BufferError, ValueError,
)  # fmt: skip
"""Errors of dulwich where git's files are damaged, or of a form that it does not know."""

_HEXADECIMAL = frozenset("0123456789abcdef")


class RepositoryInvalidError(SwarmError, status=422, title="The repository cannot be read"):
    pass


class ForeignRepository:
    """An open repository, on one of its branches."""

    def __init__(self, repo: Repo, branch: str) -> None:
        self._repo = repo
        self._parents: dict[str, str | None] = {}
        self._code: dict[str, str] = {}
        self._tip = self._find_branch(branch)
        self._on_branch = {sha: depth for depth, sha in enumerate(self.list_ancestors(self._tip))}

    def list_branch(self) -> list[str]:
        """The branch's commits along first parents, oldest first."""
        return list(self._on_branch)[::-1]

    def list_ancestors(self, sha: str) -> Iterator[str]:
        """A commit and its first parents, as far as they are there, newest first."""
        at: str | None = sha
        while at is not None and (at in self._parents or self._remember_parent(at)):
            yield at
            at = self._parents[at]

    def _remember_parent(self, sha: str) -> bool:
        """Whether there is such a commit, whose first parent is known then."""
        commit = self._find_commit(sha)
        if commit is not None:
            self._parents[sha] = commit.parents[0].decode() if commit.parents else None
        return commit is not None

    def identify_code(self, sha: str) -> str:
        """A name of a commit's files without those that runs write and texts: commits of the same name do the same."""
        if sha not in self._code:
            named = ((entry.path or b"", entry.sha or b"") for entry in self._list_entries(sha))
            lines = [path + b" " + blob for path, blob in named if not path.lower().endswith(NO_CODE)]
            self._code[sha] = sha1(b"\n".join(lines), usedforsecurity=False).hexdigest()
        return self._code[sha]

    def resolve(self, prefix: str) -> str | None:
        """The commit that a hash, which may be short, names; those of the branch come first."""
        if len(prefix) < MIN_PREFIX or not _HEXADECIMAL.issuperset(prefix):
            return None
        known = [sha for sha in self._on_branch if sha.startswith(prefix)]
        if not known:
            names = (name.decode() for name in self._repo.object_store.iter_prefix(prefix.encode()))
            known = [name for name in dict.fromkeys(names) if self._find_commit(name) is not None]
        return known[0] if len(known) == 1 else None

    def read_subject(self, sha: str) -> str:
        """The first line of a commit's message."""
        return (self.read_words(sha).message.splitlines() or [""])[0]

    def read_words(self, sha: str) -> CommitWords:
        """A commit's author, time and message; the time zone is dropped, and a time that cannot be is 0."""
        commit = self._get_commit(sha)
        author = commit.author.decode(errors="replace").replace("\0", "")
        name, bracket, address = author.partition(" <")
        if not bracket or not address.endswith(">") or any(c in name + address[:-1] for c in "<>\n"):
            author = NO_AUTHOR
        message = commit.message.decode(errors="replace").replace("\0", "")
        authored_at = commit.author_time or 0
        return CommitWords(author, authored_at if 0 < authored_at < LATEST.timestamp() else 0, message)

    def read_files(self, sha: str) -> tuple[dict[str, str], dict[str, str]]:
        """A commit's text files by path, those nearest to the root first; and what was left out, with the reasons."""
        texts: dict[str, str] = {}
        left_out: dict[str, str] = {}
        named = [((entry.path or b"").decode(errors="replace"), entry) for entry in self._list_entries(sha)]
        for path, entry in sorted(named, key=lambda pair: (pair[0].count("/"), pair[0])):
            if entry.mode not in REGULAR or entry.sha is None:
                left_out[path] = "a link or a module"
                continue
            data = self._read_blob(entry.sha)
            if data is None:
                left_out[path] = NOT_HERE
            elif reason := _find_reason(path, data, len(texts)):
                left_out[path] = reason
            else:
                texts[path] = data.decode()
        return texts, left_out

    def read_file(self, path: str) -> bytes | None:
        """A file's content at the branch's tip; None without it."""
        for entry in self._list_entries(self._tip):
            if entry.path == path.encode() and entry.sha is not None and entry.mode in REGULAR:
                return self._read_blob(entry.sha)
        return None

    def _list_entries(self, sha: str) -> list[TreeEntry]:
        """The files of a commit. Raises RepositoryInvalidError where the clone does not have their names."""
        try:
            return list(self._repo.object_store.iter_tree_contents(self._get_commit(sha).tree))
        except KeyError as error:
            raise RepositoryInvalidError(
                f"The clone is partial: it lacks the files of commit {sha[:10]}. Clone the repository as a whole."
            ) from error

    def _read_blob(self, sha: ObjectID) -> bytes | None:
        """A file's content; None where a partial clone does not have it."""
        try:
            blob = self._repo.object_store[sha]
        except KeyError:
            return None
        return blob.data if isinstance(blob, Blob) else None

    def _find_branch(self, branch: str) -> str:
        refs = self._repo.get_refs()
        for ref in REF_FORMATS:
            sha = refs.get(ref.format(branch).encode())  # type: ignore[call-overload]  # a ref's name is bytes
            if sha is not None and self._find_commit(sha.decode()) is not None:
                return str(sha.decode())
        known = sorted(name.decode().removeprefix("refs/heads/") for name in refs if name.startswith(b"refs/heads/"))
        raise RepositoryInvalidError(f"It has no branch {branch!r}. It has: {', '.join(known) or 'none'}.")

    def _find_commit(self, sha: str) -> Commit | None:
        try:
            found = self._repo.object_store[ObjectID(sha.encode())]
        except KeyError:
            return None
        return found if isinstance(found, Commit) else None

    def _get_commit(self, sha: str) -> Commit:
        commit = self._find_commit(sha)
        assert commit is not None, "it was listed or resolved here"
        return commit


def _find_reason(path: str, data: bytes, count: int) -> str:
    """Why a file cannot be part of a project; empty where it can."""
    if len(data) > MAX_FILE_BYTES:
        return f"larger than {MAX_FILE_BYTES} bytes"
    if count >= MAX_FILES:
        return f"one of more than {MAX_FILES} files"
    if data.startswith(LFS_POINTER):
        return "kept in Git LFS, of which the history has a pointer"
    try:
        check_path(path)
        data.decode()
    except CommitError as error:
        return str(error)
    except UnicodeDecodeError:
        return "not UTF-8 text"
    return "binary" if b"\0" in data else ""


@contextmanager
def open_repository(folder: Path, branch: str) -> Iterator[ForeignRepository]:
    """A work tree or a bare repository. Raises RepositoryInvalidError."""
    try:
        with closing(Repo(str(folder))) as repo:
            yield ForeignRepository(repo, branch)
    except NotGitRepository as error:
        raise RepositoryInvalidError(
            f"{folder} is no git repository on this machine. Clone it first, and name the clone's folder."
        ) from error
    except DAMAGED as error:
        raise RepositoryInvalidError(
            f"git's own files in {folder} cannot be read: {error}. `git fsck` says more; a new clone may help."
        ) from error
