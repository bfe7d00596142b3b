"""Edits as models write them who were asked for something else: diffs, `apply_patch` blocks, search/replace blocks."""

import re
from collections.abc import Iterator

Replacement = dict[str, str]

_OPENS, _CLOSES = (re.compile(rf"{mark}{{5,9}}(?!{mark}).*") for mark in "<>")
_TURNS = re.compile(r"={5,9}(?:\s.*)?")
"""The three lines of a search/replace block."""

_PATH = r"[`\"']?(?:[ab]/)?([\w./-]+\.\w+)[`\"']?"
_NAMED = re.compile(rf"[#* ]*(?:file(?:name)?: *|path: *)?{_PATH}[:*]* *", re.IGNORECASE)
_HEADER = re.compile(rf"^(?:\+\+\+|\*\*\* (?:Update|Add) File:) +{_PATH}")
_OTHER_HEADER = re.compile(r"^(?:diff --git |index [0-9a-f]+\.\.|--- |\+\+\+ |\*\*\* |\\ No newline|new file mode)")
_FENCE = re.compile(r"^ *(?:```|~~~)")


def read_patch(text: str) -> list[Replacement]:
    """The replacements in a text, each with `file` (empty where none is named), `search` and `replace`."""
    text = text.replace("\r\n", "\n")
    return [*_read_blocks(text)] or [*_read_hunks(text)]


def _read_blocks(text: str) -> Iterator[Replacement]:
    """Search/replace blocks; a file is named in the lines before its first one."""
    file, search, replace = "", list[str](), list[str]()
    lines: list[str] | None = None
    for line in text.split("\n"):
        if _OPENS.fullmatch(line):
            search, replace = [], []
            lines = search
        elif lines is search and _TURNS.fullmatch(line):
            lines = replace
        elif lines is replace and _CLOSES.fullmatch(line):
            yield _replace(file, "\n".join(search), "\n".join(replace))
            lines = None
        elif lines is not None:
            lines.append(line)
        elif named := _NAMED.fullmatch(line):
            file = named[1]


def _read_hunks(text: str) -> Iterator[Replacement]:
    """The hunks of diffs and patches: from `@@`, a file's header or a fence of a diff to the next of these."""
    file, old, new = "", list[str](), list[str]()
    is_inside = False
    for line in [*text.split("\n"), "@@"]:
        header = _HEADER.match(line)
        if header or line.startswith("@@") or _OTHER_HEADER.match(line) or _FENCE.match(line):
            if old != new:
                yield _replace(file, "\n".join(old), "\n".join(new))
            old, new = [], []
            file = header[1] if header else file
            is_inside = bool(header) or line.startswith(("@@", "```diff", "~~~diff", "```patch"))
        elif is_inside:
            if not line.startswith("+"):
                old.append(line[1:] if line[:1] in ("-", " ") else line)
            if not line.startswith("-"):
                new.append(line[1:] if line[:1] in ("+", " ") else line)


def _replace(file: str, search: str, replace: str) -> Replacement:
    return {"file": file, "search": search, "replace": replace}
