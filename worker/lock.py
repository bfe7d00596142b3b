"""One process per worker: two that shared a name would share an outbox and a repository."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyRunning(Exception):
    """Another process holds this worker's folder."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a worker's folder, which is created. The system gives it up when the process ends, however it ends.

    Raises AlreadyRunning, and OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(f"another process works as {folder.name!r} in {folder.parent}") from error
        yield
