"""The lock on a worker's folder: two processes that shared a name would share an outbox and a repository.

It is an open file description lock (fcntl(2), Linux 3.15): like flock it belongs to an open file and ends with the
process, and unlike flock it can be queried without being taken.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK_FILE = "lock"
_STRUCT_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, pid
_WHOLE_FILE = struct.pack(_STRUCT_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


class AlreadyRunning(Exception):
    """Another process holds this worker's folder."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Create a worker's folder if needed and hold it. The system releases it when the process ends.

    Raises AlreadyRunning, and OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK_FILE).open("a") as file:
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        except (BlockingIOError, PermissionError) as error:
            raise AlreadyRunning(f"another process works as {folder.name!r} in {folder.parent}") from error
        yield


def is_held(folder: Path) -> bool:
    """Whether a process holds this worker's folder. The lock is not taken, so no start is refused meanwhile."""
    try:
        with (folder / _LOCK_FILE).open("rb") as file:
            answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _WHOLE_FILE)
    except FileNotFoundError:
        return False
    kind: int = struct.unpack(_STRUCT_FLOCK, answer)[0]
    return kind != fcntl.F_UNLCK


def list_folders(data_dir: Path, worker: str | None) -> list[Path]:
    """The folders of the workers that have run with this data folder, or of the one with that name."""
    folders = sorted(path for path in (data_dir / "workers").glob("*") if path.is_dir())
    return [folder for folder in folders if worker in (None, folder.name)]
