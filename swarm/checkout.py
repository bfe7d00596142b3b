"""Writing a commit's files to a folder."""

from pathlib import Path

from shared.commits import CommitError, check_path
from shared.projects import CommitFiles


class CheckoutError(Exception):
    """The files cannot be written; the message says why."""


def write_files(commit: CommitFiles, folder: Path) -> None:
    """Write a commit's files into a new or empty folder. Raises CheckoutError, also for a path that leads elsewhere."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckoutError(f"{folder} is there and not an empty folder.")
    try:
        for path, text in commit.files.items():
            check_path(path)
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", newline="")
    except CommitError as error:
        raise CheckoutError(f"{error}: nothing of a coordinator is written outside of {folder}.") from error
    except OSError as error:
        raise CheckoutError(f"cannot write to {folder}: {error.strerror}.") from error
