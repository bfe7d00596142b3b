"""Changes to files as an agent writes them: replacements of text that occurs once, or whole files. Exactly, or not."""

import warnings
from collections.abc import Iterable, Mapping

from pydantic import Field

from shared.commits import CommitError, check_path
from shared.contract import Files
from shared.protocol import FilePath, Message
from worker.runs.validate import find_excess


class EditError(ValueError):
    """The changes cannot be applied; the message says which and why, so that their author can mend them."""


class Edit(Message):
    """One replacement. `search` must occur exactly once in the file, as it is after the edits before this one."""

    file: FilePath
    search: str = Field(min_length=1)
    replace: str


def apply_edits(edits: Iterable[Edit], base: Mapping[str, str]) -> dict[str, str]:
    """The whole text of each file that the edits change. Raises EditError."""
    files: dict[str, str] = {}
    for edit in edits:
        text = files.get(edit.file, base.get(edit.file))
        if text is None:
            raise EditError(f"{edit.file} is no editable file of this project; those are: {', '.join(base)}")
        count = text.count(edit.search)
        if count != 1:
            raise EditError(f"{edit.search!r} occurs {count} times in {edit.file}; it has to occur exactly once")
        files[edit.file] = text.replace(edit.search, edit.replace)
    return files


def check_files(files: Mapping[str, str], base: Mapping[str, str], limits: Files) -> dict[str, str]:
    """Those of `files` that differ from the base, if an experiment may consist of them.

    Raises EditError for a file that is not editable, is too large or is not Python, and where nothing differs.
    """
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
            with warnings.catch_warnings(action="ignore"):  # a doubtful comparison is no reason to refuse
                compile(text, path, "exec", dont_inherit=True)  # compiles, and runs nothing
    except SyntaxError as error:
        raise EditError(f"{path} is not valid Python: line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:  # lone surrogates, a null byte, or nested too deeply
        raise EditError(f"{path} cannot be read as a program: {error}") from error
