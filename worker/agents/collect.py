"""Collects text files from a folder that an untrusted program has worked in.

Its files may be links, pipes, devices or huge: no path is opened through a link, and no file that could block.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

MAX_READ_BYTES = 4 << 20
MAX_REPORTED = 20


class CollectError(ValueError):
    """A file cannot be collected; the message says which and why."""


def read_regular(folder: Path, path: str) -> str | None:
    """The text of the regular file `path` below `folder`, or None if it does not exist. Raises CollectError."""
    try:
        with _open(folder, path) as descriptor:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise CollectError(f"{path} is not a regular file")
            if status.st_size > MAX_READ_BYTES:
                raise CollectError(f"{path} is larger than {MAX_READ_BYTES:,} bytes")
            with os.fdopen(os.dup(descriptor), "rb") as file:
                return file.read(MAX_READ_BYTES).decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise CollectError(f"{path} is not text") from error
    except OSError as error:  # a link (ELOOP), a folder that became a file ...
        raise CollectError(f"{path} cannot be read: {error.strerror}") from error


def find_strays(folder: Path, before: Mapping[str, str], editable: list[str]) -> list[str]:
    """Changes to files that are not editable, in words, at most MAX_REPORTED of them."""
    strays = [f"{path} was removed" for path in before if path not in editable and not os.path.lexists(folder / path)]
    for path in _walk(folder):
        if len(strays) >= MAX_REPORTED:
            return [*strays, "and more"]
        if path in editable:
            continue
        try:
            text = read_regular(folder, path)
        except CollectError as error:
            strays.append(str(error))
            continue
        if path not in before:
            strays.append(f"{path} is new")
        elif text != before[path]:
            strays.append(f"{path} was changed")
    return strays


def size_of(folder: Path) -> int:
    """Total bytes of the files below a folder, which may still be written to."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 - hot, and no Path is kept
            except OSError:  # just removed
                continue
    return total


@contextmanager
def _open(folder: Path, path: str) -> Iterator[int]:
    """Open a file for reading, following no link on the way."""
    *parents, name = path.split("/")
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for parent in parents:
            deeper = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = deeper
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _walk(folder: Path) -> Iterator[str]:
    """Paths of its files and links, but for those of its git repository and of aider's cache."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != ".git" and not name.startswith(".aider.tags.cache")]
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]  # noqa: PTH114, PTH118
        for name in sorted([*names, *links]):
            yield os.path.relpath(os.path.join(parent, name), folder)  # noqa: PTH118
