"""Three-way merge of texts by lines: applies the change between two texts to a third.

Both changes are taken as edits of lines of the common base. Edits that touch the same lines conflict, unless they are
the same; neighbouring lines do not (git calls that a conflict, but constants stand in neighbouring lines, and each is a
decision of its own). The idea is diff3's (Khanna, Kunal, Pierce: A Formal Investigation of Diff3, 2007).
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple


class MergeConflict(Exception):
    """Both sides changed the same lines in different ways; the message says where."""


class _Edit(NamedTuple):
    """Lines `start` to `end` of the base (without the last) are replaced."""

    start: int
    end: int
    lines: tuple[str, ...]

    def meets(self, other: "_Edit") -> bool:
        """Whether both touch a line of the base, or insert at the same place."""
        if self.start == self.end == other.start == other.end:
            return True
        return self.start < other.end and other.start < self.end


def merge_texts(base: str, ours: str, theirs: str) -> str:
    """Apply to `ours` the change from `base` to `theirs`. Raises MergeConflict."""
    if ours in (base, theirs):
        return theirs
    lines = base.splitlines(keepends=True)
    mine, others = list(_list_edits(lines, ours)), list(_list_edits(lines, theirs))
    for edit in mine:
        for other in others:
            if edit != other and edit.meets(other):
                raise MergeConflict(f"line {max(edit.start, other.start) + 1} was changed by both")
    return "".join(_apply(lines, sorted({*mine, *others})))


def reapply(files: Mapping[str, str], before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """The `files` after the change that leads from `before` to `after`. Raises MergeConflict.

    Files that the change adds or removes are a conflict unless it was done already: an experiment changes files only.
    """
    merged = dict(files)
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old == new or files.get(path) == new:
            continue
        if old is None or new is None or path not in files:
            raise MergeConflict(f"{path} is not there on both sides")
        try:
            merged[path] = merge_texts(old, files[path], new)
        except MergeConflict as error:
            raise MergeConflict(f"{path}: {error}") from error
    return merged


def _list_edits(base: Sequence[str], text: str) -> Iterator[_Edit]:
    """The edits that lead from the base to a text; as many lines for as many lines are edits of one line each."""
    lines = text.splitlines(keepends=True)
    for tag, start, end, first, last in SequenceMatcher(None, base, lines, autojunk=False).get_opcodes():
        if tag == "replace" and end - start == last - first:
            yield from (_Edit(start + i, start + i + 1, (lines[first + i],)) for i in range(end - start))
        elif tag != "equal":
            yield _Edit(start, end, tuple(lines[first:last]))


def _apply(base: Sequence[str], edits: Sequence[_Edit]) -> Iterator[str]:
    """The base's lines with edits that do not meet, in their order."""
    at = 0
    for edit in edits:
        yield from base[at : edit.start]
        yield from edit.lines
        at = edit.end
    yield from base[at:]
