"""Finds a program's files: what a tool room must show besides the system's folders so that the program starts.

Launchers are links (npm's `~/.local/bin/claude -> ../lib/node_modules/...`), scripts of an interpreter (`#!/usr/bin/env
node`, a virtual environment's Python), or both.
"""

import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from worker.sandbox.confinement import SYSTEM_FOLDERS

MAX_LINKS = 40
_PACKAGES = ("node_modules", ".pnpm", "site-packages")


class ProgramMissing(Exception):
    """There is no such program; the message says which and where it was looked for."""


@dataclass
class Program:
    """A program's path, the files and folders that it needs, and the links on the way (path -> target)."""

    path: str
    places: set[Path] = field(default_factory=set)
    links: dict[Path, str] = field(default_factory=dict)


def find_program_files(word: str, search_path: str) -> Program:
    """The program that a shell with this PATH would run for `word`. Raises ProgramMissing."""
    name = str(Path(word).expanduser()) if word.startswith("~") else word
    found = shutil.which(name, path=search_path)
    if found is None:
        raise ProgramMissing(f"there is no program {word!r}" + ("" if "/" in word else f" in PATH ({search_path})"))
    program = Program(str(Path(found).absolute()))
    _follow(Path(program.path), search_path, program)
    outermost = {place for place in program.places if not any(parent in program.places for parent in place.parents)}
    program.places = outermost
    program.links = {
        link: to for link, to in program.links.items() if not any(link.is_relative_to(p) for p in outermost)
    }
    return program


def _follow(path: Path, search_path: str, program: Program) -> None:
    """Add a file, what it links to, and its interpreter."""
    for _ in range(MAX_LINKS):
        if path in program.places or (_is_system(path) and not path.is_symlink()):
            return
        program.places |= set(_owners(path))
        if not path.is_symlink():
            break
        target = str(path.readlink())
        if not _is_system(path):
            program.links[path] = target
        path = Path(os.path.normpath(path.parent.resolve() / target))
    else:
        raise ProgramMissing(f"the links of {program.path} go round in a circle")
    if not _is_system(path):
        if path not in program.links and not any(path.is_relative_to(place) for place in program.places):
            program.places.add(path)
        for word in _interpreter(path):
            if (found := shutil.which(word, path=search_path)) is not None:
                _follow(Path(found).absolute(), search_path, program)


def _owners(path: Path) -> Iterator[Path]:
    """The folders of packages that a file belongs to: npm's, a virtual environment, an installed interpreter."""
    for parent in reversed(path.parents):
        if parent.name in _PACKAGES:
            yield parent
            break
    for parent in path.parents:
        if (parent / "pyvenv.cfg").is_file():
            yield parent
    prefix = path.parent.parent
    if (
        path.parent.name == "bin"
        and (prefix / "lib").is_dir()
        and prefix not in (Path("/"), Path.home(), Path.home() / ".local")
        and not _is_system(path)
    ):
        yield prefix


def _is_system(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in SYSTEM_FOLDERS)


def _interpreter(path: Path) -> list[str]:
    """The programs that a script's first line names."""
    with path.open("rb") as file:
        first = file.readline(512)
    if not first.startswith(b"#!"):
        return []
    words = shlex.split(first[2:].decode(errors="replace"))
    return [word for word in words[:3] if not word.startswith("-") and "=" not in word]
