"""Mistakes of ours: people are shown a line and a file's name, the file has the rest."""

import traceback
from contextlib import suppress
from pathlib import Path

from shared.protocol import now


def record_crash(path: Path, error: Exception) -> None:
    """Add a mistake of ours, with where it happened, to a file. On a disk that is full it is lost, and nothing else."""
    with suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(f"{now().isoformat()}\n")
        traceback.print_exception(error, file=file)
