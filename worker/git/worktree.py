"""A commit's files on disk, for the eyes of a sandboxed process."""

from collections.abc import Mapping
from pathlib import Path

from shared.commits import check_path


def write_worktree(folder: Path, files: Mapping[str, str]) -> Path:
    """Write `files` (path -> text) below `folder`, which must not exist yet, and return it.

    Modes are set whatever the umask: a sandboxed process may have another uid. Raises CommitError for a path that
    is not allowed.
    """
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    for path, text in files.items():
        check_path(path)
        target = folder / path
        for parent in reversed(target.relative_to(folder).parents[:-1]):
            (folder / parent).mkdir(exist_ok=True)
            (folder / parent).chmod(0o755)
        target.write_text(text, encoding="utf-8", newline="")
        target.chmod(0o644)
    return folder
