"""The folder of torch's compiled code: each run has its own, which is deleted with its sandbox.

The worker may have let the project's untouched code compile once, and kept what came of it as an archive. A trainer
that gets the archive unpacks a copy for itself: it can change that as it likes, but no other process ever sees it.
"""

import os
import tarfile
import tempfile

FOLDER = os.path.join(tempfile.gettempdir(), "compiled")


def open_folder(archive: int | None) -> None:
    """Let torch look for compiled code, and put it, in FOLDER, which begins with the archive's files."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(FOLDER, "inductor")
    os.environ["TRITON_CACHE_DIR"] = os.path.join(FOLDER, "triton")
    os.makedirs(FOLDER, exist_ok=True)
    if archive is not None:
        with os.fdopen(archive, "rb") as file, tarfile.open(fileobj=file, mode="r:") as files:
            files.extraction_filter = getattr(tarfile, "data_filter", None)  # from Python 3.11.4 on
            files.extractall(FOLDER)


def keep_folder(archive: int) -> int:
    """Write what was compiled so far into a file of fixed size, as an archive. Returns its size, 0 for lack of room."""
    with os.fdopen(archive, "wb", buffering=0) as file:
        try:
            with tarfile.open(fileobj=file, mode="w:") as files:
                files.add(FOLDER, arcname=".")
        except PermissionError:  # the file cannot grow
            return 0
        return file.tell()
