"""The real git client, with nothing of the user's own settings."""

import os
import subprocess
from pathlib import Path

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "ada",
    "GIT_AUTHOR_EMAIL": "ada@swarm",
    "GIT_COMMITTER_NAME": "ada",
    "GIT_COMMITTER_EMAIL": "ada@swarm",
}


class GitFailed(Exception):
    """The exit status was not 0; the message is what git printed."""


class Git:
    """A repository in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def init(cls, folder: Path) -> "Git":
        run_git("init", "--quiet", str(folder))
        return cls(folder)

    @classmethod
    def clone(cls, source: str, folder: Path, *options: str) -> "Git":
        run_git("clone", "--quiet", *options, source, str(folder))
        return cls(folder)

    def __call__(self, *arguments: str, stdin: bytes = b"") -> str:
        return run_git("-C", str(self.folder), *arguments, stdin=stdin)

    def list_commits(self, *which: str) -> list[str]:
        """Commits that can be reached from some refs (from all by default), newest first."""
        return self("rev-list", *(which or ("--all",))).split()

    def count_loose(self) -> int:
        """How many objects are not in packs."""
        return int(self("count-objects").split()[0])

    def check(self) -> None:
        """Raise GitFailed unless everything that can be reached is there and well-formed."""
        assert "missing" not in self("fsck", "--full", "--strict")


def run_git(*arguments: str, stdin: bytes = b"") -> str:
    """Run git; what it printed on stdout. Raises GitFailed."""
    done = subprocess.run(["git", *arguments], input=stdin, capture_output=True, env=ENVIRONMENT, timeout=60)
    if done.returncode:
        raise GitFailed(done.stderr.decode())
    return done.stdout.decode()
