"""Unified diffs between the files of two commits."""

from collections.abc import Iterator, Mapping
from difflib import unified_diff


def diff_files(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """A unified diff as `git diff` would head it; empty where nothing changed."""
    return "".join(
        line for path in sorted({*before, *after}) for line in _diff_file(path, before.get(path), after.get(path))
    )


def _diff_file(path: str, before: str | None, after: str | None) -> Iterator[str]:
    if before == after:
        return
    old_name = "/dev/null" if before is None else f"a/{path}"
    new_name = "/dev/null" if after is None else f"b/{path}"
    lines = unified_diff((before or "").splitlines(), (after or "").splitlines(), old_name, new_name, lineterm="")
    for line in lines:
        yield line + "\n"
