"""Applies a model's edits and whole files to the files of a commit.

A text to search for that does not occur is looked for again without what models add when they quote code: a fence, line
numbers, other quotes and spaces, escapes of escapes, another indentation. It must then occur exactly once, too.
"""

import re
import textwrap
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping

from pydantic import Field

from shared.commits import CommitError, check_path
from shared.contract import Files
from shared.protocol import Message
from worker.runs.validate import find_excess

_FENCE = re.compile(r"\s*(```|~~~)[\w.+-]*\n(.*?)\n?\1\s*", re.DOTALL)
_NUMBERED = re.compile(r"[ \t]*(\d+)[ \t]?(?:[:|→.)]|\t)[ \t]?(.*)")
_PLAIN = str.maketrans({"\u00a0": " ", "\u2007": " ", "\u202f": " ", "‘": "'", "’": "'", "“": '"', "”": '"',
                        "\u200b": None, "\ufeff": None, "\r": None})  # fmt: skip


class EditError(ValueError):
    """The changes cannot be applied; the message says which and why, so that their author can correct them."""


class Edit(Message):
    """One replacement. `search` must occur exactly once in the file, as it is after the edits before this one. The only
    editable file need not be named."""

    file: str = Field(default="", max_length=1000)
    search: str = Field(min_length=1)
    replace: str


class WholeFile(Message):
    """A file with its whole text."""

    file: str
    text: str


def apply_changes(
    edits: Iterable[Edit], wholes: Iterable[WholeFile], base: Mapping[str, str], tree: Collection[str] = ()
) -> dict[str, str]:
    """The whole text of each file that they name; a path of `tree` means no other file. Raises EditError."""
    files = apply_edits(edits, base, tree)
    for whole in wholes:
        path = _find_path(whole.file, base, tree) or whole.file
        if path in files:
            raise EditError(f"{path} is given twice, or whole and as edits; give it once")
        files[path] = _clean_whole(whole.text, base.get(path, ""))
    return files


def apply_edits(edits: Iterable[Edit], base: Mapping[str, str], tree: Collection[str] = ()) -> dict[str, str]:
    """The whole text of each file that the edits change; `tree` as in `apply_changes`. Raises EditError."""
    files: dict[str, str] = {}
    for edit in edits:
        path = _find_path(edit.file, base, tree)
        if path is None:
            raise EditError(f"{edit.file!r} is not an editable file of this project; editable are: {', '.join(base)}")
        text = files.get(path, base[path])
        changed = _apply(edit.search, edit.replace, text)
        if changed is None:
            count = text.count(edit.search)
            raise EditError(f"{edit.search!r} occurs {count} times in {path}; it must occur exactly once")
        files[path] = changed
    return files


def check_files(files: Mapping[str, str], base: Mapping[str, str], limits: Files) -> dict[str, str]:
    """The files that differ from the base. Raises EditError if none does, or one is forbidden, too large or broken."""
    for path, text in files.items():
        if path not in limits.editable:
            raise EditError(f"{path} is not editable; only these files are: {', '.join(limits.editable)}")
        try:
            check_path(path)
        except CommitError as error:
            raise EditError(str(error)) from error
        _check_text(path, text)
    changed = {path: text for path, text in files.items() if base.get(path) != text}
    if not changed:
        raise EditError("nothing is changed: the files are those of the parent")
    if excess := find_excess(changed, limits):
        raise EditError(excess)
    return changed


def _check_text(path: str, text: str) -> None:
    try:
        text.encode()
        if path.endswith(".py"):
            with warnings.catch_warnings(action="ignore"):  # a warning is no reason to refuse
                compile(text, path, "exec", dont_inherit=True)  # compiles, and runs nothing
    except SyntaxError as error:
        raise EditError(f"{path} is not valid Python: line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:  # lone surrogates, a null byte, or nested too deeply
        raise EditError(f"{path} cannot be read as a program: {error}") from error


def _find_path(named: str, base: Mapping[str, str], tree: Collection[str]) -> str | None:
    """The file that an answer means: by its path, by the end of that, or the only one where none is named."""
    if named in base or named in tree:
        return named if named in base else None
    ends = [path for path in base if not named or f"/{named}".endswith(f"/{path}") or path.endswith(f"/{named}")]
    return ends[0] if len(ends) == 1 else None


def _apply(search: str, replace: str, text: str) -> str | None:
    """The text with the replacement, None if what is searched for is not there once."""
    mends: tuple[Callable[[str], str], ...] = (str, _strip_fence, _make_plain, _strip_numbers, _unescape)
    for mend in mends:
        search, replace = mend(search), mend(replace)
        if count := text.count(search) if search else 0:
            return text.replace(search, replace) if count == 1 else None
    return _replace_lines(search, replace, text)


def _replace_lines(search: str, replace: str, text: str) -> str | None:
    """The text with lines replaced that differ from those searched for in their common indentation and their ends."""
    lines, wanted = text.split("\n"), _align(search.strip("\n"))
    count = len(wanted)
    places = [at for at in range(len(lines) - count + 1) if _align("\n".join(lines[at : at + count])) == wanted]
    if len(places) != 1 or not any(wanted):
        return None
    (at,) = places
    margin = next(line[: len(line) - len(line.lstrip())] for line in lines[at : at + count] if line.strip())
    first = next(line for line in wanted if line)
    margin = margin.removesuffix(first[: len(first) - len(first.lstrip())])
    return "\n".join([*lines[:at], textwrap.indent(textwrap.dedent(replace.strip("\n")), margin), *lines[at + count :]])


def _align(text: str) -> list[str]:
    return [line.rstrip() for line in textwrap.dedent(text).split("\n")]


def _clean_whole(text: str, base: str) -> str:
    """A file as a model sent it, without what belongs to the sending."""
    text = text.removeprefix("\ufeff")
    text = text if "\r\n" in base else text.replace("\r\n", "\n")
    text = _strip_fence(text)
    mend, own = _strip_numbers if "\n" in text else _unescape, base.rstrip("\n")
    text = mend(text) if mend(own) == own else text  # where the file itself does not look so
    return text if text.endswith("\n") or not base.endswith("\n") else f"{text}\n"


def _strip_fence(text: str) -> str:
    return found[2] if (found := _FENCE.fullmatch(text)) else text


def _make_plain(text: str) -> str:
    return text.translate(_PLAIN)


def _strip_numbers(text: str) -> str:
    """The text without line numbers, if each line has one, and they follow each other."""
    found = [_NUMBERED.fullmatch(line) for line in text.rstrip("\n").split("\n")]
    numbers = [int(line[1]) for line in found if line is not None]
    if len(numbers) < len(found) or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return text
    return "\n".join(line[2] for line in found if line is not None) + ("\n" if text.endswith("\n") else "")


def _unescape(text: str) -> str:
    """A text in one line whose line breaks were escaped twice."""
    if "\n" in text or "\\n" not in text:
        return text
    return text.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')
