"""The folders that a coding tool works in: a copy of the commit with a git repository, a brief, an answer, and a home.

Single files of the volunteer's home are copied into that home, and back if the tool may change them
(`~/.tool.json:rw`), because a file that is mounted by itself cannot be replaced by renaming, which is how programs
renew a login.

A tool's folder also holds what its owner's next session would obey: settings, hooks, plugins. Such files are
`protected`: read-only where they exist, and moved out of the way if the tool makes one. Of such folders, which tools
fill by themselves when they start, it gets a `scratch` copy.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

from worker.agents.base import AgentError, AgentInterrupted, AgentUnavailable
from worker.agents.collect import CollectError, read_regular, size_of
from worker.agents.programs import Program
from worker.git.repository import start_history, write_worktree
from worker.machine.scratch import make_scratch
from worker.sandbox.base import MIB, ProcessOutcome, SandboxUnavailable
from worker.sandbox.tool import BRIEF, LIMITS, USER, Mount, ToolRun, start_tool

POLL_INTERVAL_SECONDS = 0.5
PROMPT, PROMPT_FILE = "{prompt}", "{prompt_file}"
MAX_SCRATCH_MIB = 32
"""Size of the largest folder that is copied; a larger one is read-only."""

MAX_ARGUMENT_BYTES = 120_000
"""Linux refuses an argument of 128 KiB (MAX_ARG_STRLEN); in place of a longer one stands a pointer to its file."""


@dataclass(frozen=True)
class RoomSettings:
    """The paths and variables that a tool may see, and its program's files."""

    home: Path
    environment: Mapping[str, str]
    mounts: tuple[Mount, ...]
    program: Program
    protected: tuple[Path, ...] = ()
    scratch: tuple[Path, ...] = ()


class ToolRoom:
    """A context manager. `files` are the commit's, `context` is a text by others. `notify` gets a line for people."""

    def __init__(
        self, settings: RoomSettings, files: Mapping[str, str], context: str, notify: Callable[[str], None]
    ) -> None:
        self._settings, self._files, self._context, self._notify = settings, files, context, notify
        self._copied: dict[Path, bytes] = {}
        self._scratch: list[Mount] = []
        self._absent = [path for path in settings.protected if not os.path.lexists(path)]

    def __enter__(self) -> Self:
        self._folder = make_scratch("agent")
        self.folder = Path(self._folder.name)
        self.work, self.answer = self.folder / "work", self.folder / "answer"
        write_worktree(self.work, self._files)
        start_history(self.work, list(self._files))
        write_worktree(self.folder / "brief", {"context.md": self._context})
        self.answer.mkdir()
        (self.folder / "home").mkdir(mode=0o700)
        for link, target in self._settings.program.links.items():
            if link.is_relative_to(self._settings.home):
                self._inside(link).parent.mkdir(parents=True, exist_ok=True)
                self._inside(link).symlink_to(target)
        for mount in self._settings.mounts:
            if self._is_copied(mount):
                inside = self._inside(mount.path)
                inside.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(mount.path, inside)
                self._copied[mount.path] = mount.path.read_bytes()
        for number, path in enumerate(self._settings.scratch):
            copy = self.folder / "scratch" / str(number)
            if path.is_dir() and size_of(path) > MAX_SCRATCH_MIB * MIB:
                self._scratch.append(Mount(path))
                continue
            if path.is_dir():
                shutil.copytree(path, copy, symlinks=True, ignore_dangling_symlinks=True)
            copy.mkdir(parents=True, exist_ok=True)
            self._scratch.append(Mount(path, writable=True, source=copy))
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        try:
            for mount in self._settings.mounts:
                if mount.writable and mount.path in self._copied:
                    self._copy_back(mount.path)
            for path in self._absent:
                if os.path.lexists(path):
                    aside = path.with_name(f"{path.name}.made-in-sandbox")
                    path.replace(aside)
                    self._notify(f"the tool made {path}, which your own sessions would obey; it is now {aside}")
        except OSError as error:
            self._notify(f"a file of the tool could not be put back: {error}")
        finally:
            self._folder.cleanup()

    def _copy_back(self, path: Path) -> None:
        """Copy a file that the tool changed, unless somebody else did so meanwhile."""
        before = self._copied[path]
        with suppress(CollectError):  # the tool put something else there
            text = read_regular(self.folder / "home", str(path.relative_to(self._settings.home)))
            if text and text.encode() != before and path.read_bytes() == before:
                _replace(path, text)

    def run(self, argv: Sequence[str], prompt: str, deadline: float, stop: Event) -> ProcessOutcome:
        """Run the tool to its end: until `deadline` (monotonic), its files are too large, or `stop`.

        Raises AgentUnavailable if it cannot be started, AgentInterrupted, AgentError.
        """
        brief = self.folder / "brief" / "prompt.md"
        brief.write_text(prompt, encoding="utf-8")
        words = _fill_in(argv, prompt.replace("\0", " "))
        if any(len(word.encode()) > MAX_ARGUMENT_BYTES for word in words):
            words = _fill_in(argv, f"Read {BRIEF}/prompt.md and do what it says.")
        settings = self._settings
        run = ToolRun(
            words,
            self.folder,
            settings.home,
            {"HOME": str(settings.home), "USER": USER, "LOGNAME": USER, **settings.environment},
            [
                *(Mount(place) for place in sorted(settings.program.places)),
                *(mount for mount in settings.mounts if mount.path not in self._copied),
                *(Mount(path) for path in settings.protected if path not in self._absent),
                *self._scratch,
            ],
            {link: target for link, target in settings.program.links.items() if not link.is_relative_to(settings.home)},
            brief if words == list(argv) else None,
        )
        try:
            process = start_tool(run, os.geteuid())
        except (SandboxUnavailable, OSError) as error:
            raise AgentUnavailable(str(error)) from error
        try:
            while (outcome := process.wait(POLL_INTERVAL_SECONDS)) is None:
                if stop.is_set():
                    raise AgentInterrupted("the worker is stopping or pausing")
                if time.monotonic() > deadline:
                    return replace(process.kill(), killed_for="it took too long and was ended")
                if size_of(self.folder) > LIMITS.disk_mib * MIB:
                    raise AgentError(f"the tool wrote more than {LIMITS.disk_mib} MiB and was ended")
        finally:
            process.kill()
        return outcome

    def _is_copied(self, mount: Mount) -> bool:
        """Whether a granted path is a single file of the home, in no granted folder."""
        folders = (other.path for other in self._settings.mounts if other.path != mount.path)
        is_single = mount.path.is_file() and not any(mount.path.is_relative_to(folder) for folder in folders)
        return is_single and mount.path.is_relative_to(self._settings.home)

    def _inside(self, path: Path) -> Path:
        return self.folder / "home" / path.relative_to(self._settings.home)


def _fill_in(argv: Sequence[str], prompt: str) -> list[str]:
    """The words of a command line, which can hold no null byte, with a prompt in place of its marks."""
    return [word.replace(PROMPT_FILE, f"{BRIEF}/prompt.md").replace(PROMPT, prompt) for word in argv]


def _replace(path: Path, text: str) -> None:
    """Replace a file whole, through a link if it is one, with the same mode."""
    path = path.resolve()
    descriptor, temporary = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        file.write(text)
    shutil.copymode(path, temporary)
    Path(temporary).replace(path)
