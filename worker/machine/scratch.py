"""Temporary folders of runs and drafts, and their removal after a process was killed."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import psutil

from worker.sandbox.confinement import DYNAMIC_UIDS

_OWN = re.compile(r"swarm-(?:run|agent|container|scratch)-(\d+)-\w+")


def make_scratch(kind: str) -> tempfile.TemporaryDirectory[str]:
    """A new folder that is removed when it is left. Its name has the id of this process."""
    return tempfile.TemporaryDirectory(prefix=f"swarm-{kind}-{os.getpid()}-", ignore_cleanup_errors=True)


def clear_leftovers() -> int:
    """Remove this user's folders whose processes have ended, as after `kill -9`; return how many.

    For root, those that were given to a run's own user id are among them.
    """
    count = 0
    own = {0, *DYNAMIC_UIDS} if os.geteuid() == 0 else {os.geteuid()}
    for folder in Path(tempfile.gettempdir()).glob("swarm-*"):
        found = _OWN.fullmatch(folder.name)
        if found is None or psutil.pid_exists(int(found[1])):
            continue
        try:
            is_own = folder.lstat().st_uid in own and folder.is_dir() and not folder.is_symlink()
        except OSError:  # another worker was quicker
            continue
        if is_own:
            remove_tree(folder)
            count += 1
    return count


def remove_tree(folder: Path) -> None:
    """Remove a folder with all below it, as far as that is possible. However deep: Python's own way recurses."""
    subprocess.run(["/bin/rm", "-rf", "--", folder], stderr=subprocess.DEVNULL, check=False)  # noqa: S603 - a fixed program
