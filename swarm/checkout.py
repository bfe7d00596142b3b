"""Writes a commit's files to a folder."""

from pathlib import Path

from shared.commits import CommitError, check_path
from shared.projects import CommitFiles
from swarm.client import CommandError


class CheckoutError(CommandError):
    """The files cannot be written."""


def write_files(commit: CommitFiles, folder: Path) -> None:
    """Writes a commit's files to a new or empty folder. Raises CheckoutError, also for a path that leads out of it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckoutError(f"{folder} exists and is not an empty folder.")
    try:
        for path, text in commit.files.items():
            check_path(path)
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", newline="")
    except CommitError as error:
        raise CheckoutError(f"{error}; files are only written inside {folder}.") from error
    except OSError as error:
        raise CheckoutError(f"cannot write to {folder}: {error.strerror}.") from error
